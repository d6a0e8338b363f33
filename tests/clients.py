"""Clients of a running service that remember what they were answered, and champions that can be told apart."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from predictive_scoring.keeping.bundle import ScoringModel
from predictive_scoring.keeping.golden import FILE as GOLDEN
from predictive_scoring.keeping.golden import golden_lines
from predictive_scoring.scoring import Scorer
from services import until

if TYPE_CHECKING:
    from conftest import Registered
    from predictive_scoring.keeping.bundle import Bundle
    from predictive_scoring.keeping.store.connection import Store
    from predictive_scoring.schema import Lead
    from services import Service

OWN = ("format", "bundle", "files", "code", "versions")
"""Keys of a manifest that `write_bundle` fills in."""


def shifted_files(bundle: Bundle, log_odds: float) -> dict[str, str]:
    """The files of a bundle whose calibration says so much more for everybody, its golden rows included."""
    document = json.loads(bundle.files["model.json"])
    document["calibration"]["intercept"] += log_odds
    files = {**bundle.files, "model.json": json.dumps(document, indent=1, sort_keys=True) + "\n"}
    files[GOLDEN] = golden_lines(ScoringModel.from_files(files), seed=0)
    return files


def facts_of(bundle: Bundle) -> dict[str, Any]:
    """What whoever trained a bundle noted in its manifest."""
    return {name: value for name, value in bundle.manifest.items() if name not in OWN}


def probabilities(bundle: Bundle, leads: Sequence[Lead], as_of: int) -> dict[str, float]:
    """What the bundle says of leads at `as_of` (epoch seconds), computed here."""
    scorer = Scorer(bundle.scoring_model(), bundle.identity, "expected", bundle.manifest)
    scores = scorer.score_many(leads, as_of)
    return {score.lead_id: score.probability for score in scores if score.probability is not None}


@dataclass(frozen=True)
class Answer:
    """One request and its answer; times by the clock `time.time`. Status 0: the connection broke, and nobody knows."""

    asked: str
    sent: float
    done: float
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Caller:
    """One client with a key of its own, on a connection that it keeps open."""

    def __init__(self, port: int, key: str, timeout: float = 60.0) -> None:
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def ask(self, method: str, path: str, document: object = None, **headers: str) -> Answer:
        """The answer; the body is sent as it is, or as JSON where it is none yet."""
        body = document if document is None or isinstance(document, bytes) else json.dumps(document).encode()
        sent = time.time()
        try:
            self._connection.request(method, path, body, {**self._headers, **headers})
            answer = self._connection.getresponse()
            found = answer.read()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(path, sent, time.time(), answer.status, found, told)
        except (OSError, http.client.HTTPException):
            self.close()
            return Answer(path, sent, time.time(), 0)

    def close(self) -> None:
        self._connection.close()


Step = Callable[[Caller, int], Answer]
"""One request of a client: its connection, and how many it made before."""


@dataclass
class Crowd:
    """What many clients were answered so far. A client that fails by itself ends the block with its error."""

    answers: list[Answer] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, caller: Caller, step: Step, pause: float) -> None:
        """One client."""
        number = 0
        try:
            while not self.stop.is_set():
                self.answers.append(step(caller, number))
                number += 1
                self.stop.wait(pause)
        except BaseException as failed:  # noqa: BLE001 raised again where the block ends
            self.failures.append(failed)
        finally:
            caller.close()

    def wait_for(self, answers: int, seconds: float = 60.0) -> None:
        """Until so many more were answered."""
        wanted, end = len(self.answers) + answers, time.monotonic() + seconds
        while len(self.answers) < wanted:
            assert time.monotonic() < end, "no answer comes"
            assert not self.failures, self.failures
            time.sleep(0.01)


@contextlib.contextmanager
def crowd(port: int, keys: Sequence[str], step: Step, pause: float = 0.0) -> Iterator[Crowd]:
    """One client per key asks while the block runs, with `pause` seconds between two requests."""
    clients = Crowd()
    threads = [
        threading.Thread(target=clients.run, args=(Caller(port, key), step, pause), daemon=True)
        for key in keys
    ]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        clients.stop.set()
        for thread in threads:
            thread.join(90)
    if clients.failures:
        raise clients.failures[0]


@dataclass(frozen=True)
class Running:
    """A service, the models that it serves and the store that it keeps; every client has a key of its own."""

    service: Service
    world: Registered
    store: Store
    keys: tuple[str, ...]

    @contextlib.contextmanager
    def caller(self, number: int = -1) -> Iterator[Caller]:
        """A connection with one of the keys."""
        with contextlib.closing(Caller(self.service.port, self.keys[number])) as caller:
            yield caller

    def numbers(self) -> dict[str, float]:
        """What /metrics says, by series."""
        with self.caller() as caller:
            text = caller.ask("GET", "/metrics").body.decode()
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {series: float(value) for series, _, value in lines}

    def settle(self, seconds: float = 120.0) -> None:
        """Wait until the background worker is there and no lead waits for its score."""

        def is_done() -> bool:
            numbers = self.numbers()
            beat = numbers.get("predictive_scoring_worker_heartbeat_age_seconds", 1e9)
            return beat < 30 and numbers["predictive_scoring_rescoring_backlog"] == 0

        assert until(is_done, seconds)
