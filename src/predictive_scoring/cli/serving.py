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
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predictive_scoring import errors
from predictive_scoring.cli.processes import Child, Signals, end, heard_signals, watch
from predictive_scoring.errors import EnvironmentMissing, InvalidSetting, PortInUse, PredictiveScoringError

Say = Callable[[str], None]

START_SECONDS = 180.0
"""How long the workers may take to be ready once the tables are loaded."""
STOP_SECONDS = 30.0
"""How long they may take to stop: a second unready, 20 for requests under way, and the background worker's step."""
DRAIN_VARIABLE = "PREDICTIVE_SCORING_DRAIN_SECONDS"
"""How long a stopping service still takes requests, in seconds, if not one (`serving/worker.py`)."""
MOST_DRAIN = 300.0
BACKLOG = 2048
PROCESSES = "processes.json"
_NAMES = {"localhost": "127.0.0.1", "[::1]": "::1"}
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 where a service that is bound everywhere is asked
# The probe goes to this machine, whatever proxy the environment names.
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


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
        preparation = stack.enter_context(_preparation(plan, environment, heard))
        if plan.is_public:
            preparation.check_keyed(plan)
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
        loaded = preparation.is_loaded()
        if loaded:
            # Whether somebody is still there to read it is seen below.
            with contextlib.suppress(BrokenPipeError):
                os.write(opener, b"1" * len(api))
        for child in api:
            # One that is started again need not wait for the gate.
            child.command, child.descriptors = child.command[:-2], (listening.fileno(),)
        if loaded and _wait_until_ready(plan, api, run, heard):
            if plan.background:
                children.append(_background(plan, environment))
                children[-1].start(time.monotonic())
            _note(run, children)
            say(
                f"Serving {preparation.name} on {plan.root} (pages) and {plan.root}/v1/score (API). Ctrl-C stops."
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


@dataclass
class _Preparation:
    """The child that loads the tables. What it says is read line by line."""

    process: subprocess.Popen[bytes]
    heard: Signals
    name: str = ""

    def check_keyed(self, plan: Plan) -> None:
        """Wait for the open store. Raises InvalidSetting where it holds no valid key."""
        document = self._read()
        if document is not None and not document["keyed"]:
            raise InvalidSetting(
                what=f"{plan.host} is reached by others, and the store holds no valid key",
                where="--host",
                remedy="Make one first: predictive-scoring keys create --name CRM --scope crm. Or leave out --host "
                "(127.0.0.1).",
            )

    def is_loaded(self) -> bool:
        """Wait for the tables; False: a signal asks to stop."""
        document: Mapping[str, Any] | None = {}
        while document is not None and "loaded" not in document:
            document = self._read()
        return document is not None

    def _read(self) -> Mapping[str, Any] | None:
        """What it says next; None: a signal asks to stop. Raises the error that it met."""
        answers = self.process.stdout
        if answers is None:
            raise AssertionError("it was started with a pipe")
        while not self.heard.stop.is_set():
            if not select.select([answers], [], [], 0.05)[0]:
                continue
            line = answers.readline()
            if not line:
                raise _ended("the preparation of the store", self.process.wait())
            document: dict[str, Any] = json.loads(line)
            if "error" in document:
                raise _refusal(document)
            self.name = document.get("name", self.name)
            return document
        return None


@contextlib.contextmanager
def _preparation(plan: Plan, environment: Mapping[str, str], heard: Signals) -> Iterator[_Preparation]:
    command = [sys.executable, "-P", "-m", "predictive_scoring.cli.loading"]
    command += ["--project", str(plan.project_file), "--models", str(plan.models)]
    if plan.database:
        command += ["--database", plan.database]
    child = Child("preparation", command, environment)
    child.start(time.monotonic(), answering=True)
    try:
        if child.process is None:
            raise AssertionError("it was just started")
        yield _Preparation(child.process, heard)
    finally:
        end([child], 5.0, heard.hurry)
        if child.process is not None and child.process.stdout is not None:
            child.process.stdout.close()


def _ended(who: str, code: int | None) -> EnvironmentMissing:
    return EnvironmentMissing(
        what=f"{who} ended by itself (exit code {code})",
        where="predictive-scoring serve",
        remedy="Its last lines above say why; predictive-scoring doctor checks the environment.",
    )


def _wait_until_ready(plan: Plan, api: Sequence[Child], run: Path, heard: Signals) -> bool:
    """True when every worker can score, False when somebody asked to stop.

    Raises the service's own refusal, or EnvironmentMissing when a worker ended or it takes too long."""
    until = time.monotonic() + START_SECONDS
    while not heard.stop.is_set():
        for child in api:
            if child.exit_code is not None:
                raise _ended(f"the worker {child.name}", child.exit_code)
        status, document = _probe(f"{plan.root}/readyz")
        if status == 200 and all((run / f"{child.name}.ready").exists() for child in api):
            return True
        # A named error tells a failed start from one under way.
        if status == 503 and document.get("error"):
            raise _refusal(document)
        if time.monotonic() > until:
            raise EnvironmentMissing(
                what=f"the service was not ready within {START_SECONDS:g} seconds",
                where=f"{plan.root}/readyz",
                remedy="Its lines above say how far it came; predictive-scoring doctor checks the environment.",
            )
        heard.stop.wait(0.05)
    return False


def _refusal(document: Mapping[str, Any]) -> PredictiveScoringError:
    kind = getattr(errors, str(document.get("error")), None)
    if not (isinstance(kind, type) and issubclass(kind, PredictiveScoringError)):
        kind = EnvironmentMissing
    said = document.get("detail") or document.get("what")
    refusal: PredictiveScoringError = kind(
        what=str(said), where=str(document.get("where")), remedy=str(document.get("remedy"))
    )
    return refusal


def _probe(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with _DIRECTLY.open(url, timeout=5) as answer:
            return answer.status, {}
    except urllib.error.HTTPError as refused:
        with contextlib.suppress(ValueError, OSError):
            document = json.loads(refused.read())
            return refused.code, document if isinstance(document, dict) else {}
        return refused.code, {}
    except OSError:
        return 0, {}
