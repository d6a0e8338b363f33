"""Processes that live and die with their launcher, and come back when they die alone.

Each child has a session of its own, so that a Ctrl-C of the terminal reaches the launcher only, and asks the kernel
for a SIGTERM when the launcher dies, however it dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

log = logging.getLogger("predictive_scoring.launcher")

SETTLED = 60.0
"""Seconds after which a process that dies has not failed to start."""
LONGEST_WAIT = 30.0
_PR_SET_PDEATHSIG = 1
_STANDARD_ERROR = 2


def wait_before_restart(failures: int, first: float) -> float:
    """Seconds to wait before a process is started again that failed to stay `failures` times in a row:
    `first`, then 1, 2, 4 and so on up to 30."""
    return min(LONGEST_WAIT, first if failures <= 1 else 2.0 ** (failures - 2 + (first >= 1.0)))


@dataclass
class Child:
    """A process that is wanted. `first_wait` are the seconds before its first restart."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    descriptors: tuple[int, ...] = ()
    first_wait: float = 0.0
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    restarts: int = 0
    _started: float = 0.0
    _due: float | None = None

    def start(self, now: float, *, answering: bool = False) -> None:
        """Start it. `now` are seconds of a clock that does not go back. `answering`: its standard output is a pipe."""
        launcher = os.getpid()
        self.process = subprocess.Popen(
            list(self.command),
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            # Unbuffered, so that whoever waits for the pipe misses nothing that was read ahead.
            bufsize=0,
            # Else logs: standard output is the launcher's own.
            stdout=subprocess.PIPE if answering else _STANDARD_ERROR,
            start_new_session=True,
            pass_fds=self.descriptors,
            # The launcher runs no threads, which is what makes code between fork and exec safe.
            preexec_fn=lambda: _end_with(launcher),  # noqa: PLW1509 no threads, see above
        )
        self._started, self._due = now, None

    def look(self, now: float) -> bool:
        """Start it again if it died and its time has come. Whether the set of processes changed."""
        if self.process is None:
            return False
        code = self.process.poll()
        if code is None:
            return False
        if self._due is None:
            # What it left behind must not hold the port or the store beside its successor.
            kill_group(self.process.pid)
            self.failures = 1 if now - self._started >= SETTLED else self.failures + 1
            wait = wait_before_restart(self.failures, self.first_wait)
            self._due = now + wait
            log.warning("process_died", extra={"child": self.name, "exit_code": code, "restart_in_s": wait})
        if now < self._due:
            return False
        self.restarts += 1
        self.start(now)
        log.info("process_restarted", extra={"child": self.name, "restarts": self.restarts})
        return True

    @property
    def exit_code(self) -> int | None:
        """None while it runs (or was never started)."""
        return None if self.process is None else self.process.poll()

    @property
    def pid(self) -> int | None:
        return None if self.process is None or self.process.poll() is not None else self.process.pid

    def send(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)


def end(children: Iterable[Child], grace: float, hurry: Event) -> bool:
    """Ask all to stop and wait up to `grace` seconds, or until `hurry` is set; then kill what is left, with everything
    below it. Whether all of them ended by themselves."""
    begun = [child for child in children if child.process is not None]
    for child in begun:
        child.send(signal.SIGTERM)
    waited = 0.0
    while any(child.exit_code is None for child in begun) and waited < grace and not hurry.wait(0.05):
        waited += 0.05
    ended = all(child.exit_code is not None for child in begun)
    for child in begun:
        if child.process is not None:
            kill_group(child.process.pid)
            child.process.wait()
    return ended


def kill_group(leader: int) -> None:
    """Kill a child with everything in its session's group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


@dataclass
class Signals:
    """What was asked by signal: the first one asks to stop, the second one not to wait."""

    stop: Event = field(default_factory=Event)
    hurry: Event = field(default_factory=Event)


@contextlib.contextmanager
def heard_signals() -> Iterator[Signals]:
    """SIGINT and SIGTERM set events for as long as the block runs."""
    heard = Signals()

    def hear(*_: object) -> None:
        (heard.hurry if heard.stop.is_set() else heard.stop).set()

    before: dict[int, Any] = {
        number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(
    children: Sequence[Child], heard: Signals, clock: Callable[[], float], changed: Callable[[], None]
) -> None:
    """Keep all of them running until a signal asks to stop. `changed` is called after a restart."""
    while not heard.stop.wait(0.1):
        # Every child is looked at, whatever the first one says.
        looked = [child.look(clock()) for child in children]
        if any(looked):
            changed()


def _end_with(launcher: int) -> None:
    """In the child, before it becomes another program: end when the launcher does."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        library: Any = ctypes.CDLL(None, use_errno=True)
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        # It may have died before it could be asked for.
        if os.getppid() != launcher:
            os._exit(0)
