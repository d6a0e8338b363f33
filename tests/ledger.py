"""Clients that note what they were told is kept, and the books of the store held against it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from clients import Answer, Caller
from predictive_scoring.keeping.store import tables
from predictive_scoring.timeline import format_instant

if TYPE_CHECKING:
    from predictive_scoring.keeping.store.connection import Store, Transaction

PATIENCE = 240.0
"""Seconds that a client sends the same batch again before it gives up."""


@dataclass
class Ledger:
    """What clients were told. `events` are the leads by ids that were answered 2xx, `retried` the answers that were
    none, `scores` what a reader of the feed was given, in order. `caller` opens a connection to the service."""

    name: str
    caller: Callable[[], Caller]
    events: dict[str, str] = field(default_factory=dict)
    retried: list[Answer] = field(default_factory=list)
    scores: list[tuple[str, str]] = field(default_factory=list)
    _failures: list[BaseException] = field(default_factory=list)
    _written: threading.Event = field(default_factory=threading.Event)
    _read: threading.Event = field(default_factory=threading.Event)
    _writers: list[threading.Thread] = field(default_factory=list)
    _reader: threading.Thread | None = None

    @contextmanager
    def written(self, clients: int, pause: float = 0.02) -> Iterator[None]:
        """So many clients write while the block runs; then each sends its last batch until it is answered. One reads
        the feed of scores, until `judge`."""
        chances = [random.Random(f"{self.name}-{number}") for number in range(clients)]
        self._writers = [
            self._begun(partial(self._write, f"{self.name}-{number}", chance, pause))
            for number, chance in enumerate(chances)
        ]
        self._reader = self._begun(self._follow)
        try:
            yield
        finally:
            self._written.set()
            self._ended(self._writers)

    def _begun(self, work: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException as failed:  # noqa: BLE001 raised again where the block ends
                self._failures.append(failed)

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    def _ended(self, threads: Sequence[threading.Thread]) -> None:
        for thread in threads:
            thread.join(PATIENCE + 60)
        if self._failures:
            raise self._failures[0]

    def _write(self, name: str, chance: random.Random, pause: float) -> None:
        number = 0
        while not self._written.is_set():
            number += 1
            batch = [
                {
                    "type": "track",
                    "messageId": f"{name}-{number}-{place}",
                    "userId": f"{self.name}-lead-{chance.randrange(30)}",
                    "event": "pricing_view",
                    "properties": {"batch": number, "of": name},
                }
                for place in range(chance.randint(1, 20))
            ]
            # Half of them under a key of their own, half counting on the ids of their messages.
            self._insist(batch, {"idempotency-key": f"{name}-{number}"} if number % 2 else {})
            self.events |= {item["messageId"]: item["userId"] for item in batch}
            self._written.wait(pause)

    def _insist(self, batch: list[dict[str, Any]], headers: dict[str, str]) -> None:
        end = time.monotonic() + PATIENCE
        while (answer := self._ask("POST", "/v1/events", {"batch": batch}, headers)).status != 200:
            self.retried.append(answer)
            assert time.monotonic() < end, "it does not come back"
            time.sleep(0.05)
        document = answer.document
        assert document["accepted"] + document["duplicates"] == len(batch), document

    def _ask(self, method: str, path: str, body: object, headers: Mapping[str, str]) -> Answer:
        """An answer, a refusal that asks to come again, or none."""
        with closing(self.caller()) as caller:
            answer = caller.ask(method, path, body, **headers)
        assert answer.status in (200, 0, 503), (answer.status, answer.body[:300])
        if answer.status == 503:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.document["name"] in ("StoreUnavailable", "KeysUnreadable", "NotReady")
            assert int(answer.headers["retry-after"]) > 0
        return answer

    def _follow(self) -> None:
        cursor, is_last = "", False
        while not is_last:
            is_last, more = self._read.is_set(), True
            while more:
                after = f"&cursor={cursor}" if cursor else ""
                answer = self._ask("GET", f"/v1/scores?every=true&limit=200{after}", None, {})
                if answer.status == 200:
                    page = answer.document
                    cursor, more = page["cursor"], page["more"]
                    self.scores += ((score["lead_id"], score["as_of"]) for score in page["scores"])
                else:
                    time.sleep(0.1)
            self._read.wait(0.2)

    def judge(self, store: Store) -> str:
        """Every event that was answered is there exactly once, for its lead, and nothing else is; every changed lead
        has a score made when its last event was known; the reader of the feed was given every score, once and in order.

        To be called when no lead waits for its score. What was found, in words."""
        events, latest, scores = tables.events, tables.latest_scores, tables.scores

        def read(tx: Transaction) -> tuple[Sequence[Any], dict[str, int], list[tuple[str, str]]]:
            mine = events.c.lead_id.like(f"{self.name}-lead-%")
            return (
                tx.rows(select(events.c.event_id, events.c.lead_id, events.c.known).where(mine)),
                {row.lead_id: row.as_of for row in tx.rows(select(latest.c.lead_id, latest.c.as_of))},
                [
                    (row.lead_id, format_instant(row.as_of))
                    for row in tx.rows(select(scores.c.lead_id, scores.c.as_of).order_by(scores.c.cursor))
                ],
            )

        kept, scored, made = store.read(read)
        # The reader's last look comes after ours, and the worker may score again what is outdated meanwhile.
        self._read.set()
        if self._reader is not None:
            self._ended([self._reader])
        later = store.read(read)[2]
        assert {row.event_id: row.lead_id for row in kept} == self.events, "what is kept is what was answered"
        assert len(kept) == len(self.events)
        for row in kept:
            assert scored[row.lead_id] > row.known, f"{row.lead_id} has no score newer than its last event"
        # Of its own leads: another test's may have become one since, and then stand under another id.
        told, before, after = (
            [score for score in listed if score[0].startswith(f"{self.name}-lead-")]
            for listed in (self.scores, made, later)
        )
        assert told[: len(before)] == before, "the feed tells every score, in order"
        assert told == after[: len(told)], "and none twice"
        lost = sum(answer.status == 0 for answer in self.retried)
        return (
            f"{len(kept)} events of {len({row.lead_id for row in kept})} leads kept once, "
            f"{len(made)} scores told once; {lost} answers were lost on the way, {len(self.retried) - lost} refused"
        )
