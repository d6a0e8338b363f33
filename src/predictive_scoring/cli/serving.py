"""Start the service and stay with it: BentoML as a child process that never outlives its launcher.

The child gets a process group of its own and asks the kernel for a SIGTERM when the launcher dies, so that no
orphan keeps the port; the worker below it asks for the same (see `serving/service.py`).
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from predictive_scoring import errors
from predictive_scoring.data.sources import load_project
from predictive_scoring.errors import EnvironmentMissing, InvalidSetting, PortInUse, PredictiveScoringError
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.keeping.vectors import SHARE

Say = Callable[[str], None]

START_SECONDS = 180.0
"""How long a start may take: opening large tables and scoring every stored lead is part of it."""
GRACE_SECONDS = 20
"""How long requests under way may take to finish after a stop signal."""
_PR_SET_PDEATHSIG = 1
_STANDARD_ERROR = 2
_LOOPBACK = {"localhost": "127.0.0.1", "127.0.0.1": "127.0.0.1", "::1": "::1", "[::1]": "::1"}
# The probe goes to this machine, whatever proxy the environment names.
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class _Service:
    """Where the service lies: its import string, and the folder to import it from (None: installed)."""

    target: str
    folder: Path | None


def serve(
    project_file: Path,
    models: Path,
    host: str = "127.0.0.1",
    port: int = 3000,
    *,
    keep_vectors: float = SHARE,
    say: Say = lambda _: None,
) -> int:
    """Serve the project's champion until a signal arrives or the service ends; the exit code.

    `keep_vectors` is the share (0 to 1) of served feature vectors that is kept for `replay`.

    Raises InvalidSetting for an address that others could reach, the errors of `load_project`, UnknownModel
    without a champion, PortInUse, and EnvironmentMissing where the service is not installed or does not start."""
    address = _loopback(host)
    project = load_project(project_file).project
    BundleStore(models / project.name).champion()
    service = _find_service()
    _check_port(address, port)
    environment = _environment(project_file, models, keep_vectors, service)
    root = f"http://{f'[{address}]' if ':' in address else address}:{port}"
    command = [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        service.target,
        f"--host={address}",
        f"--port={port}",
    ]
    # Quiet, because its greeting comes seconds before anything can be asked; ours comes when it can.
    command += ["--quiet", f"--timeout-graceful-shutdown={GRACE_SECONDS}"]
    child = subprocess.Popen(
        command,
        env=environment,
        cwd=service.folder,
        stdin=subprocess.DEVNULL,
        # Logs; standard output is the launcher's own.
        stdout=_STANDARD_ERROR,
        start_new_session=True,
        # The launcher runs no threads here, which is what makes code between fork and exec safe.
        preexec_fn=_end_with_parent,  # noqa: PLW1509
    )
    with _stopping(child) as stop:
        try:
            if _wait_until_ready(root, child, stop):
                say(f"Serving {project.name} on {root} (pages) and {root}/v1/score (API). Ctrl-C stops.")
            code = child.wait()
        finally:
            _end(child)
    if stop.asked:
        say("Stopped.")
        return 0
    raise EnvironmentMissing(
        what=f"the service ended by itself (exit code {code})",
        where=f"bentoml serve {service.target}",
        remedy="Its last lines above say why; predictive-scoring doctor checks the environment.",
    )


def _loopback(host: str) -> str:
    """The IP address to bind. Raises InvalidSetting for anything but this machine's own loopback."""
    if host in _LOOPBACK:
        return _LOOPBACK[host]
    raise InvalidSetting(
        what=f"{host!r} is not 127.0.0.1, localhost or ::1, and the service knows no keys yet",
        where="--host",
        remedy="Leave out --host (127.0.0.1), and put a reverse proxy with authentication in front.",
    )


def _check_port(address: str, port: int) -> None:
    """Raises PortInUse, or InvalidSetting where the port cannot be had at all."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the server will: a port that only remembers closed connections is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            # Two sockets may share an address until one of them listens.
            probe.listen(1)
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


def _find_service() -> _Service:
    """The repository's `serving/` beside an editable install, else the copy inside the installed package."""
    root = Path(__file__).resolve().parents[3]
    if (root / "serving" / "service.py").is_file():
        found = _Service("serving.service:PredictiveScoring", root)
    elif importlib.util.find_spec("predictive_scoring._serving") is not None:
        found = _Service("predictive_scoring._serving.service:PredictiveScoring", None)
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


def _environment(project_file: Path, models: Path, keep_vectors: float, service: _Service) -> dict[str, str]:
    # The package's own parent too: it may have been imported from a folder that is on no child's path.
    paths = [str(service.folder)] if service.folder else []
    paths += [str(Path(errors.__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        # Idle OpenMP threads would otherwise spin and slow every prediction.
        "OMP_WAIT_POLICY": "passive",
        **os.environ,
        "BENTOML_DO_NOT_TRACK": "True",
        "PYTHONPATH": os.pathsep.join(paths),
        "PREDICTIVE_SCORING_PROJECT": str(project_file.resolve()),
        "PREDICTIVE_SCORING_MODELS": str(models.resolve()),
        "PREDICTIVE_SCORING_KEEP_VECTORS": str(keep_vectors),
    }


def _end_with_parent() -> None:
    """In the child, before it becomes BentoML: end when the launcher does."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        library: Any = ctypes.CDLL(None, use_errno=True)
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class _Stop:
    """Whether somebody asked the service to stop."""

    asked: bool = False


@contextlib.contextmanager
def _stopping(child: subprocess.Popen[bytes]) -> Iterator[_Stop]:
    """Pass SIGINT and SIGTERM on as SIGTERM; the second one does not wait for requests under way."""
    stop = _Stop()

    def forward(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 the signature of a handler
        with contextlib.suppress(ProcessLookupError):
            if stop.asked:
                os.killpg(child.pid, signal.SIGKILL)
            else:
                child.send_signal(signal.SIGTERM)
        stop.asked = True

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_until_ready(root: str, child: subprocess.Popen[bytes], stop: _Stop) -> bool:
    """True when `/readyz` answers 200, False when the child ended or was asked to.

    Raises the service's own refusal, or EnvironmentMissing when it takes too long."""
    until = time.monotonic() + START_SECONDS
    while child.poll() is None and not stop.asked:
        status, document = _probe(f"{root}/readyz")
        if status == 200:
            return True
        # A named error tells a failed start from one under way.
        if status == 503 and document.get("error"):
            raise _refusal(document)
        if time.monotonic() > until:
            raise EnvironmentMissing(
                what=f"the service was not ready within {START_SECONDS:g} seconds",
                where=f"{root}/readyz",
                remedy="Its lines above say how far it came; score fewer leads, or use a quicker machine.",
            )
        time.sleep(0.1)
    return False


def _refusal(document: Mapping[str, Any]) -> PredictiveScoringError:
    kind = getattr(errors, str(document.get("error")), None)
    if not (isinstance(kind, type) and issubclass(kind, PredictiveScoringError)):
        kind = EnvironmentMissing
    refusal: PredictiveScoringError = kind(
        what=str(document.get("detail")), where=str(document.get("where")), remedy=str(document.get("remedy"))
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


def _end(child: subprocess.Popen[bytes]) -> None:
    """Leave nothing of the child's group behind."""
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_SECONDS + 5)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
