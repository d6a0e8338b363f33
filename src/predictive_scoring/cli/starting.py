"""What a starting service waits for: the child that prepares the store, then workers that can score."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predictive_scoring import errors
from predictive_scoring.cli.processes import Child, Signals, end
from predictive_scoring.errors import EnvironmentMissing, InvalidSetting, PredictiveScoringError

START_SECONDS = 180.0
"""How long the workers may take to be ready once the tables are loaded."""

# The probe goes to this machine, whatever proxy the environment names.
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Preparation:
    """The child that loads the tables. What it says is read line by line."""

    process: subprocess.Popen[bytes]
    heard: Signals
    name: str = ""

    def check_keyed(self, host: str) -> None:
        """Wait for the open store. Raises InvalidSetting where it holds no valid key."""
        document = self._read()
        if document is not None and not document["keyed"]:
            raise InvalidSetting(
                what=f"{host} is reached by others, and the store holds no valid key",
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
def preparation(
    project_file: Path, models: Path, database: str | None, environment: Mapping[str, str], heard: Signals
) -> Iterator[Preparation]:
    """The child, ended with the block."""
    command = [sys.executable, "-P", "-m", "predictive_scoring.cli.loading"]
    command += ["--project", str(project_file), "--models", str(models)]
    if database:
        command += ["--database", database]
    child = Child("preparation", command, environment)
    child.start(time.monotonic(), answering=True)
    try:
        if child.process is None:
            raise AssertionError("it was just started")
        yield Preparation(child.process, heard)
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


def wait_until_ready(root: str, api: Sequence[Child], run: Path, heard: Signals) -> bool:
    """True when every worker can score, False when somebody asked to stop. `run` is where workers say that they can.

    Raises the service's own refusal, or EnvironmentMissing when a worker ended or it takes too long."""
    until = time.monotonic() + START_SECONDS
    while not heard.stop.is_set():
        for child in api:
            if child.exit_code is not None:
                raise _ended(f"the worker {child.name}", child.exit_code)
        status, document = _probe(f"{root}/readyz")
        if status == 200 and all((run / f"{child.name}.ready").exists() for child in api):
            return True
        # A named error tells a failed start from one under way.
        if status == 503 and document.get("error"):
            raise _refusal(document)
        if time.monotonic() > until:
            raise EnvironmentMissing(
                what=f"the service was not ready within {START_SECONDS:g} seconds",
                where=f"{root}/readyz",
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
