"""Start the service and stay with it: API workers and the background worker, as children that never outlive us.

The launcher owns the listening socket: while a worker that died is started again, requests wait in its queue and are
not refused. On the loopback address the workers start at once, because importing what they need takes seconds;
meanwhile another child brings the store up to date and loads the project's tables, and then the launcher opens the
gate for them. On an address that others reach nothing starts before a valid key was seen.
"""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from predictive_scoring import errors
from predictive_scoring.cli.processes import Child, Signals, end, heard_signals, watch
from predictive_scoring.cli.starting import preparation, wait_until_ready
from predictive_scoring.errors import EnvironmentMissing, InvalidSetting, PortInUse

Say = Callable[[str], None]

STOP_SECONDS = 30.0
"""How long the children may take to stop: a second unready, 20 for requests under way, the background worker's step."""
DRAIN_VARIABLE = "PREDICTIVE_SCORING_DRAIN_SECONDS"
"""How long a stopping service still takes requests, in seconds, if not one (`serving/worker.py`)."""
MOST_DRAIN = 300.0
BACKLOG = 2048
PROCESSES = "processes.json"
_NAMES = {"localhost": "127.0.0.1", "[::1]": "::1"}
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 where a service that is bound everywhere is asked


@dataclass(frozen=True)
class Plan:
    """What to start. `hosts` are the names that a public service is asked by; `database` is the store's address (None:
    as the environment says, or a file beside the bundles); `keep_vectors` the share (0 to 1) of served feature
    vectors that is kept for `replay`."""

    project_file: Path
    models: Path
    host: str = "127.0.0.1"
    port: int = 3000
    workers: int = 1
    background: bool = True
    hosts: tuple[str, ...] = ()
    database: str | None = None
    keep_vectors: float = 0.01

    @property
    def address(self) -> str:
        """The IP address to bind. Raises InvalidSetting."""
        try:
            return str(ipaddress.ip_address(_NAMES.get(self.host, self.host)))
        except ValueError as refused:
            raise InvalidSetting(
                what=f"{self.host!r} is not an IP address of this machine",
                where="--host",
                remedy="Leave out --host (127.0.0.1); with an API key, 0.0.0.0 is every address of this machine.",
            ) from refused

    @property
    def is_public(self) -> bool:
        """Whether others than this machine reach the address. Raises InvalidSetting."""
        return not ipaddress.ip_address(self.address).is_loopback

    @property
    def root(self) -> str:
        """Where the service is asked from this machine."""
        asked = _ANY.get(self.address, self.address)
        return f"http://{f'[{asked}]' if ':' in asked else asked}:{self.port}"


@dataclass(frozen=True)
class _Service:
    """The module of the API workers, and the folder to import it from (None: installed)."""

    module: str
    folder: Path | None


def serve(plan: Plan, *, say: Say = lambda _: None) -> int:
    """Serve the project's champion until a signal arrives; the exit code.

    Raises InvalidSetting for an address that others could reach without a key, the errors of `load_project`,
    `open_store` and `load_tables`, UnknownModel without a champion, PortInUse, and EnvironmentMissing where the
    service is not installed or does not start."""
    service = _find_service()
    _check_names(plan)
    patience = STOP_SECONDS + _drain_seconds()
    with contextlib.ExitStack() as stack:
        run = Path(tempfile.mkdtemp(prefix="predictive-scoring-"))
        stack.callback(shutil.rmtree, run, ignore_errors=True)
        environment = _environment(plan, service, run)
        heard = stack.enter_context(heard_signals())
        children: list[Child] = []
        # Whatever happens from here on, nothing of them stays.
        stack.callback(lambda: end(children, patience, heard.hurry))
        prepared = stack.enter_context(
            preparation(plan.project_file, plan.models, plan.database, environment, heard)
        )
        if plan.is_public:
            prepared.check_keyed(plan.host)
        listening = stack.enter_context(_listening(plan.address, plan.port))
        gate, opener = os.pipe()
        stack.callback(os.close, opener)
        api = [
            _api_worker(service, number + 1, environment, listening.fileno(), gate)
            for number in range(plan.workers)
        ]
        children += api
        for child in api:
            child.start(time.monotonic())
        os.close(gate)
        loaded = prepared.is_loaded()
        if loaded:
            # Whether somebody is still there to read it is seen below.
            with contextlib.suppress(BrokenPipeError):
                os.write(opener, b"1" * len(api))
        for child in api:
            # One that is started again need not wait for the gate.
            child.command, child.descriptors = child.command[:-2], (listening.fileno(),)
        if loaded and wait_until_ready(plan.root, api, run, heard):
            if plan.background:
                children.append(_background(plan, environment))
                children[-1].start(time.monotonic())
            _note(run, children)
            say(
                f"Serving {prepared.name} on {plan.root} (pages) and {plan.root}/v1/score (API). Ctrl-C stops."
            )
            _stay(run, children, heard)
    say("Stopped.")
    return 0


def _stay(run: Path, children: Sequence[Child], heard: Signals) -> None:
    """Keep them running until a signal."""
    # Here, because it takes a fifth of a second, which the start need not wait for.
    from predictive_scoring import logs

    logs.configure("launcher")
    watch(children, heard, time.monotonic, lambda: _note(run, children))


def _note(run: Path, children: Sequence[Child]) -> None:
    """Tell the API workers who runs, for /metrics."""
    running = {child.name: child.pid for child in children if child.pid is not None}
    draft = run / f"{PROCESSES}.new"
    draft.write_text(json.dumps({"launcher": os.getpid(), **running}), "utf-8")
    draft.replace(run / PROCESSES)


def _check_names(plan: Plan) -> None:
    """Raises InvalidSetting where the Host header of a request could not be checked."""
    if plan.is_public and not plan.hosts:
        raise InvalidSetting(
            what=f"{plan.host} is reached by others, and no name is said that they ask it by",
            where="--host",
            remedy="Add --allow-host with each name in its addresses, for example --allow-host crm.example.com; or "
            "leave out --host (127.0.0.1).",
        )
    for name in plan.hosts:
        if not name or any(not (mark.isalnum() or mark in "-.[:]_") for mark in name):
            raise InvalidSetting(
                what=f"{name!r} is not a host name",
                where="--allow-host",
                remedy="Write the name alone, without https:// and port: --allow-host crm.example.com.",
            )


def _drain_seconds() -> float:
    """Raises InvalidSetting here, at the start, and not in a worker that is asked to stop."""
    text = os.environ.get(DRAIN_VARIABLE) or "1"
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= MOST_DRAIN:
            return float(text)
    raise InvalidSetting(
        what=f"{text!r} is not a number of seconds from 0 to {MOST_DRAIN:g}",
        where=f"environment variable {DRAIN_VARIABLE}",
        remedy="Write the seconds that a balancer needs to notice, for example 10; or leave it out.",
    )


@contextlib.contextmanager
def _listening(address: str, port: int) -> Iterator[socket.socket]:
    """The socket that the workers share. Raises PortInUse, or InvalidSetting where it cannot be had at all."""
    with socket.socket(
        socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM
    ) as listening:
        # A port that only remembers closed connections is free.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((address, port))
            # Two sockets may share an address until one of them listens.
            listening.listen(BACKLOG)
        except PermissionError as refused:
            raise InvalidSetting(
                what=f"port {port} is reserved for the system",
                where="--port",
                remedy="Choose a port above 1023, for example --port 3000.",
            ) from refused
        except (OSError, OverflowError) as refused:
            raise PortInUse(
                what=f"port {port} on {address} cannot be used: {refused}",
                where="--port",
                remedy=f"Stop the process that listens on port {port}, or choose another: --port {port % 65000 + 1}.",
            ) from refused
        yield listening


def _find_service() -> _Service:
    """The repository's `serving/` beside an editable install, else the copy inside the installed package."""
    root = Path(__file__).resolve().parents[3]
    if (root / "serving" / "worker.py").is_file():
        found = _Service("serving.worker", root)
    elif importlib.util.find_spec("predictive_scoring._serving") is not None:
        found = _Service("predictive_scoring._serving.worker", None)
    else:
        raise EnvironmentMissing(
            what="the service is not part of this installation",
            where="predictive_scoring._serving",
            remedy="Install predictive-scoring again from its wheel, or run from a clone of the repository.",
        )
    if importlib.util.find_spec("bentoml") is None:
        raise EnvironmentMissing(
            what="BentoML is not installed",
            where=sys.prefix,
            remedy="Install predictive-scoring with its dependencies.",
        )
    return found


def _environment(plan: Plan, service: _Service, run: Path) -> dict[str, str]:
    # The package's own parent too: it may have been imported from a folder that is on no child's path.
    paths = [str(service.folder)] if service.folder else []
    paths += [str(Path(errors.__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {
        # Idle OpenMP threads would otherwise spin and slow every prediction.
        "OMP_WAIT_POLICY": "passive",
        **os.environ,
        "BENTOML_DO_NOT_TRACK": "True",
        "PYTHONPATH": os.pathsep.join(paths),
        "PREDICTIVE_SCORING_PROJECT": str(plan.project_file.resolve()),
        "PREDICTIVE_SCORING_MODELS": str(plan.models.resolve()),
        "PREDICTIVE_SCORING_KEEP_VECTORS": str(plan.keep_vectors),
        "PREDICTIVE_SCORING_BIND": "public" if plan.is_public else "loopback",
        "PREDICTIVE_SCORING_RUN": str(run),
    }
    if plan.hosts:
        settings["PREDICTIVE_SCORING_HOSTS"] = ",".join(plan.hosts)
    if plan.database:
        settings["PREDICTIVE_SCORING_DATABASE_URL"] = plan.database
    return settings


def _api_worker(
    service: _Service, number: int, environment: Mapping[str, str], listening: int, gate: int
) -> Child:
    # -P: nothing that lies in the folder we were started from is imported by mistake.
    command = [sys.executable, "-P", "-m", service.module, f"--fd={listening}", f"--number={number}"]
    command += ["--gate", str(gate)]
    return Child(f"api-{number}", command, environment, (listening, gate))


def _background(plan: Plan, environment: Mapping[str, str]) -> Child:
    run = "from predictive_scoring.cli import main; main()"
    command = [sys.executable, "-P", "-c", run, "work"]
    command += ["--project", str(plan.project_file.resolve()), "--models", str(plan.models.resolve())]
    return Child("background", command, environment, first_wait=1.0)
