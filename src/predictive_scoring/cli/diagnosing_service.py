"""What the verb doctor looks at of a service that runs here, or is about to: store, keys, worker, clock, memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from predictive_scoring.errors import PredictiveScoringError
from predictive_scoring.keeping.store.connection import Store, Transaction
from predictive_scoring.keeping.store.facts import read_fact
from predictive_scoring.keeping.store.keys import Key, list_keys
from predictive_scoring.keeping.store.opening import VARIABLE, database_url, open_store
from predictive_scoring.keeping.store.outbox import outbox_counts
from predictive_scoring.keeping.store.rescoring import Backlog, backlog
from predictive_scoring.keeping.store.tables import REVISION
from predictive_scoring.timeline import DAY, format_instant

Health = Literal["ok", "missing", "warning", "optional"]

SOON = 14 * DAY
"""Keys that expire within this time (seconds) are told."""
QUIET_WORKER, LONG_WAIT, CLOCK_OFF = 60, 300, 60
"""Seconds."""
LITTLE_DISK, NO_DISK, LITTLE_MEMORY = 2**30, 2**27, 700 * 2**20
"""Bytes. An API worker and the background worker need some 300 MB each."""
WAIT = 3.0
"""Seconds to wait for another writer: a doctor does not queue."""


@dataclass(frozen=True)
class Check:
    """One thing looked at. `optional` is absent without harm to the main job, a `warning` will do harm later."""

    name: str
    health: Health
    detail: str
    remedy: str = ""


def service_checks(models: Path, name: str | None, database: str | None, now: int) -> Iterator[Check]:
    """Store and everything that it tells, at `now` (epoch seconds), then memory. `name` is the project's, None if there
    is none."""
    if name is not None:
        yield from _store(database or database_url(os.environ, models / name), now)
    yield _memory()


def _store(url: str, now: int) -> Iterator[Check]:
    file = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
    if file is not None and not file.exists():
        yield Check("store", "optional", f"{file} does not exist yet", "serve makes it when it first starts.")
        return
    try:
        store = open_store(url, migrate=False, wait=WAIT)
    except PredictiveScoringError as refused:
        yield Check("store", "missing", refused.what, f"{refused.remedy} ({VARIABLE}; serve migrates.)")
        return
    try:
        yield from _open_store(store, file, now)
    except PredictiveScoringError as refused:
        yield Check("store", "missing", refused.what, refused.remedy)
    finally:
        store.close()


def _open_store(store: Store, file: Path | None, now: int) -> Iterator[Check]:
    mode = store.read(_mode)
    yield Check("store", "ok", f"{store.where}, revision {REVISION}, {mode}")
    # Takes the writers' turn and changes nothing.
    store.write(lambda tx: tx.lock("history", raised_by=0))
    yield Check("store writable", "ok", "a transaction was committed")
    if file is not None:
        yield _disk(file)
        if mode != "journal mode wal":
            yield Check(
                "store journal", "warning", mode, "Move the file to a local disk: WAL needs shared memory."
            )
    seen = store.read(lambda tx: _see(tx, now))
    yield _keys(seen.keys, now)
    yield _worker(seen.heartbeat, now)
    yield _backlog(seen.backlog, now)
    yield _outbox(seen.dead)
    yield _clock(seen, now)


@dataclass(frozen=True)
class _Seen:
    keys: tuple[Key, ...]
    heartbeat: int | None
    backlog: Backlog
    dead: int
    database_time: int | None


def _see(tx: Transaction, now: int) -> _Seen:
    beat, clock = read_fact(tx, "worker"), None
    if not tx.is_sqlite:
        asked = tx.connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())")
        clock = int(asked.scalar_one())
    return _Seen(
        list_keys(tx), None if beat is None else int(beat), backlog(tx, now), outbox_counts(tx)[1], clock
    )


def _mode(tx: Transaction) -> str:
    if tx.is_sqlite:
        return f"journal mode {tx.connection.exec_driver_sql('PRAGMA journal_mode').scalar_one()}"
    return f"PostgreSQL {tx.connection.exec_driver_sql('SHOW server_version').scalar_one()}"


def _disk(file: Path) -> Check:
    free = shutil.disk_usage(file.parent).free
    detail = f"{free / 2**30:.1f} GiB free beside {file.name}"
    if free < NO_DISK:
        return Check(
            "store disk", "missing", detail, "Make room: the store refuses writes when the disk is full."
        )
    if free < LITTLE_DISK:
        return Check(
            "store disk", "warning", detail, "Make room soon; `retention` in the project file limits growth."
        )
    return Check("store disk", "ok", detail)


def _keys(keys: tuple[Key, ...], now: int) -> Check:
    valid = [key for key in keys if key.is_valid(now)]
    if not valid:
        what = "none is valid" if keys else "none yet: the service binds to this machine only"
        health: Health = "warning" if keys else "optional"
        return Check("API keys", health, what, "predictive-scoring keys create --name CRM --scope crm")
    ending = [key for key in valid if key.expires is not None and key.expires - now <= SOON]
    if ending:
        first = min(ending, key=lambda key: key.expires or 0)
        told = f"{first.key_id} expires {format_instant(first.expires or 0)}"
        more = f" and {len(ending) - 1} more soon" if len(ending) > 1 else ""
        return Check(
            "API keys", "warning", told + more, "Create another one and give it to its user in time."
        )
    return Check("API keys", "ok", f"{len(valid)} valid")


def _worker(heartbeat: int | None, now: int) -> Check:
    remedy = "serve starts one (unless --no-worker); or run predictive-scoring work."
    if heartbeat is None:
        return Check("background worker", "optional", "never ran", remedy)
    if now - heartbeat > QUIET_WORKER:
        return Check("background worker", "warning", f"last heard of {format_instant(heartbeat)}", remedy)
    return Check("background worker", "ok", f"heard of {max(0, now - heartbeat)} s ago")


def _backlog(queue: Backlog, now: int) -> Check:
    age = 0 if queue.oldest is None else max(0, now - queue.oldest)
    detail = f"{queue.waiting:,} leads wait to be scored again" + (
        f", the first for {age:,} s" if age else ""
    )
    if age > LONG_WAIT:
        return Check(
            "re-scoring", "warning", detail, "See the background worker's log; more workers share the queue."
        )
    return Check("re-scoring", "ok", detail)


def _outbox(dead: int) -> Check:
    if dead:
        return Check(
            "webhooks",
            "warning",
            f"{dead:,} were given up",
            "See the worker's log for the receiver's answer.",
        )
    return Check("webhooks", "ok", "none was given up")


def _clock(seen: _Seen, now: int) -> Check:
    remedy = "Set the clock of this machine, and keep it set (NTP)."
    if seen.database_time is not None and abs(seen.database_time - now) > CLOCK_OFF:
        return Check("clock", "warning", f"{abs(seen.database_time - now)} s off the database's", remedy)
    known = [key.created for key in seen.keys] + ([] if seen.heartbeat is None else [seen.heartbeat])
    if any(instant > now + CLOCK_OFF for instant in known):
        return Check("clock", "warning", f"{format_instant(now)} is before what the store knows", remedy)
    return Check("clock", "ok", format_instant(now))


def _memory() -> Check:
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
    except OSError:
        return Check("memory", "optional", "the system does not say")
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    detail = f"{free / 2**20:,.0f} MiB available"
    if free < LITTLE_MEMORY:
        return Check(
            "memory", "warning", detail, "An API worker and the background worker need some 300 MB each."
        )
    return Check("memory", "ok", detail)
