"""Processes of the serving benchmark: the service as users start it, its peers, and the load."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
COMMAND = Path(sys.executable).parent / "predictive-scoring"
START_SECONDS = 180.0
Load = Mapping[str, Any]
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Target:
    """Where to send what: a running server, a path of it, and a file with a body on each line (`get`: the end of an
    address)."""

    port: int
    path: str
    bodies: Path
    get: bool = False


@dataclass(frozen=True)
class Running:
    """A started process group that listens on `port`; `seconds` from its start until it was ready."""

    process: subprocess.Popen[bytes]
    port: int
    seconds: float

    @property
    def worker(self) -> int:
        """Process id of the one API worker of the service."""
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (place / "cmdline").read_bytes().split(b"\0")
                parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid and b"--number=1" in command:
                    return int(place.name)
        raise RuntimeError("the service has no worker")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def status_of(url: str) -> int:
    """HTTP status; 0 where nobody listens."""
    try:
        with _DIRECTLY.open(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return 0


@contextlib.contextmanager
def started(
    command: list[str], port: int, ready: str, log: Path, more: Mapping[str, str]
) -> Iterator[Running]:
    """The command running, once it answers 200 at `ready`; ended with everything below it afterwards."""
    began = time.perf_counter()
    with log.open("wb") as told:
        process = subprocess.Popen(
            command,
            env={**os.environ, "OMP_WAIT_POLICY": "passive", **more},
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=told,
            start_new_session=True,
        )
    try:
        while status_of(f"http://127.0.0.1:{port}{ready}") != 200:
            if process.poll() is not None or time.perf_counter() - began > START_SECONDS:
                raise RuntimeError(
                    f"{command[:4]} does not answer; its log ends with\n{log.read_text()[-3000:]}"
                )
            time.sleep(0.01)
        yield Running(process, port, time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(40)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def service(project: Path, models: Path, database: str, log: Path, *options: str) -> Iterator[Running]:
    """`predictive-scoring serve` with one worker, nothing in the background, and no limit of requests per second."""
    port = free_port()
    command = [str(COMMAND), "serve", "--project", str(project), "--models", str(models), "--port", str(port)]
    command += ["--database-url", database, "--no-worker", *options]
    more = {"PREDICTIVE_SCORING_RATE": "100000:100000"}
    with started(command, port, "/readyz", log, more) as running:
        yield running


@contextlib.contextmanager
def peer(kind: str, file: Path, log: Path) -> Iterator[Running]:
    """A peer of `_peers.py`."""
    port = free_port()
    command = [sys.executable, str(HERE / "_peers.py"), kind, str(port), str(file)]
    with started(command, port, "/docs", log, {}) as running:
        yield running


@contextlib.contextmanager
def mlflow_server(model: Path, log: Path) -> Iterator[Running]:
    """`mlflow models serve` of a logged model, in this environment and with one worker."""
    port = free_port()
    command = [str(COMMAND.with_name("mlflow")), "models", "serve", "--model-uri", str(model)]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"}
    with started(command, port, "/ping", log, quiet) as running:
        yield running


def load(target: Target, **job: Any) -> dict[str, Any]:
    """What `_load.py` measured."""
    asked = {"port": target.port, "path": target.path, "bodies": str(target.bodies), "get": target.get, **job}
    answer = subprocess.run(
        [sys.executable, str(HERE / "_load.py")],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise RuntimeError(f"{target.path}: {answer.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def in_turns(rounds: int, *targets: Target, **job: Any) -> list[dict[str, float]]:
    """Medians over the rounds of what was measured at each target; they take turns, so that a slower moment of the
    machine hits all of them."""
    measured: list[list[dict[str, Any]]] = [[] for _ in targets]
    for _ in range(rounds):
        for found, target in zip(measured, targets, strict=True):
            found.append(load(target, **job))
    names = ("per_second", "p50", "p90", "p99")
    return [{name: statistics.median(one[name] for one in found) for name in names} for found in measured]


def memory(process: int) -> tuple[float, float]:
    """(resident, proportional) set size of a process in MB; shared pages count whole in the first, split in the
    second."""
    rollup = dict(
        line.split(":", 1)
        for line in (Path("/proc") / str(process) / "smaps_rollup").read_text().splitlines()[1:]
        if ":" in line
    )
    resident, proportional = (int(rollup[name].split()[0]) / 1024 for name in ("Rss", "Pss"))
    return resident, proportional


def timed(call: Callable[[], object]) -> float:
    """Seconds of a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
