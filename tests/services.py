"""The service as users start it: `predictive-scoring serve` as a process, its children, and clients that load it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VERB = "from predictive_scoring.cli import main; main()"
LEAD = {
    "lead_id": "bar-1",
    "created_at": "2026-01-05T09:00:00Z",
    "events": [{"event_id": "1", "event_type": "pricing_view", "occurred_at": "2026-02-01T10:00:00Z"}],
}


def score_body(leads: int = 1) -> bytes:
    """A body for POST /v1/score."""
    many = [{**LEAD, "lead_id": f"bar-{number}"} for number in range(leads)]
    return json.dumps({"leads": many, "as_of": "2026-02-10T00:00:00Z"}).encode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def until(condition: Callable[[], object], seconds: float = 40.0) -> bool:
    """Whether it becomes true within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


@dataclass
class Service:
    """A running launcher. `log` is where its standard error goes."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text("utf-8")

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log lines."""
        return [json.loads(line) for line in self.said.splitlines() if line.startswith("{")]

    @property
    def children(self) -> dict[str, int]:
        """Process ids by what they do: api-1, background and so on, as the kernel tells it."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) != self.process.pid or fields[0] == "Z":
                    continue
                command = (place / "cmdline").read_text().split("\0")
                number = next((one for one in command if one.startswith("--number=")), None)
                if number is not None:
                    found[f"api-{number.partition('=')[2]}"] = int(place.name)
                elif "work" in command:
                    found["background"] = int(place.name)
        return found

    def ask(
        self,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30,
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        """Status, body and headers of one answer."""
        more = {"content-type": "application/json"} if body is not None else {}
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=body, headers={**more, **(headers or {})}
        )
        try:
            with urllib.request.urlopen(asked, timeout=timeout) as answer:
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read(), refused.headers

    def is_ready(self) -> bool:
        try:
            return self.ask("/readyz", timeout=5)[0] == 200
        except OSError:
            return False


@contextlib.contextmanager
def launched(
    project: Path, models: Path, folder: Path, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """The verb serve, with a store in `folder`; not awaited, and killed in the end with everything below it."""
    port, log = free_port(), folder / "serve.log"
    command = [sys.executable, "-c", VERB, "serve", "--project", str(project), "--models", str(models)]
    command += ["--port", str(port), "--keep-vectors", "0", *options]
    settings = {
        "PREDICTIVE_SCORING_DATABASE_URL": f"sqlite:///{folder / 'store.db'}",
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        **(environment or {}),
    }
    with log.open("w") as told:
        # Nobody starts it from the repository's folder in real life, so nothing may depend on that.
        process = subprocess.Popen(
            command, env=settings, cwd=project.parent, stderr=told, stdout=subprocess.DEVNULL, text=True
        )
    service = Service(process, port, log)
    try:
        yield service
    finally:
        left = service.children
        process.kill()
        process.wait(10)
        for number in left.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


@contextlib.contextmanager
def serving(
    project: Path, models: Path, folder: Path, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """The same, once it greets."""
    with launched(project, models, folder, *options, environment=environment) as service:
        if not until(lambda: "Serving " in service.said or service.process.poll() is not None, 90):
            raise AssertionError(f"it did not start:\n{service.said}")
        if service.process.poll() is not None:
            raise AssertionError(f"it ended:\n{service.said}")
        yield service


@dataclass
class Load:
    """Clients that ask without a pause. `answers` are (sent, status) by the clock `time.monotonic`; status 0: no
    answer, -1: no connection."""

    port: int
    body: bytes = field(default_factory=score_body)
    answers: list[tuple[float, int]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """One client; half of its connections stay open for a while."""
        while not self.stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                connection.connect()
            except OSError:
                self.answers.append((time.monotonic(), -1))
                self.stop.wait(0.02)
                continue
            with contextlib.closing(connection):
                for _ in range(5):
                    if not self._ask(connection) or self.stop.is_set():
                        break

    def _ask(self, connection: http.client.HTTPConnection) -> bool:
        headers, sent = {"content-type": "application/json"}, time.monotonic()
        try:
            connection.request("POST", "/v1/score", self.body, headers)
            sent = time.monotonic()
            answer = connection.getresponse()
            document = answer.read()
            whole = answer.status != 200 or len(json.loads(document)["scores"]) > 0
            self.answers.append((sent, answer.status if whole else 0))
            return not answer.will_close
        except (OSError, http.client.HTTPException, ValueError):
            self.answers.append((sent, 0))
            return False


@contextlib.contextmanager
def loaded(service: Service, clients: int = 4) -> Iterator[Load]:
    """A service under load while the block runs."""
    load = Load(service.port)
    threads = [threading.Thread(target=load.run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop.set()
        for thread in threads:
            thread.join(60)
