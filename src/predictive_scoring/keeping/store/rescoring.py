"""The queue of leads whose history changed after their last score.

A worker takes some for a while, scores them, and reports them done in the transaction that keeps the scores. A
lead that changed meanwhile stays in the queue; one whose worker died comes up again when its time is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, case, delete, func, or_, select, update

from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.connection import Transaction


@dataclass(frozen=True, slots=True)
class Due:
    """A lead to score, ours before `until` (epoch seconds); `version` tells whether it changed meanwhile."""

    lead_id: str
    version: int
    since: int
    until: int


def mark(tx: Transaction, lead_ids: Iterable[str], now: int) -> None:
    """These leads changed (`now`, epoch seconds)."""
    rows = [{"lead_id": one, "since": now, "version": 1, "claimed_until": 0} for one in sorted(set(lead_ids))]
    tx.insert_rows(tables.rescoring, rows, lambda insert: insert.on_conflict_do_update(**_again()))


def mark_outdated(tx: Transaction, *, bundle: str, before: int, now: int, limit: int) -> int:
    """Mark up to `limit` known leads that have no score, one of another bundle, or one as of an instant before
    `before` (epoch seconds); how many. Leads that wait already are not among them."""
    tx.lock("history")
    found = outdated(tx, bundle=bundle, before=before, limit=limit)
    mark(tx, found, now)
    return len(found)


def outdated(tx: Transaction, *, bundle: str, before: int, limit: int) -> tuple[str, ...]:
    """The leads that `mark_outdated` would mark, without a lock."""
    leads, latest, queue = tables.leads, tables.latest_scores, tables.rescoring
    is_outdated = or_(latest.c.lead_id.is_(None), latest.c.bundle != bundle, latest.c.as_of < before)
    found = tx.rows(
        select(leads.c.lead_id)
        .outerjoin(latest, latest.c.lead_id == leads.c.lead_id)
        .outerjoin(queue, queue.c.lead_id == leads.c.lead_id)
        .where(leads.c.identified, queue.c.lead_id.is_(None), is_outdated)
        .limit(limit)
    )
    return tuple(row.lead_id for row in found)


def _again() -> dict[str, Any]:
    """Marked again: `since` stays, so that the queue is worked off in the order in which leads began to wait."""
    queue = tables.rescoring
    return {"index_elements": [queue.c.lead_id], "set_": {"version": queue.c.version + 1}}


def take(tx: Transaction, now: int, limit: int, lease: int) -> tuple[Due, ...]:
    """Up to `limit` leads that wait the longest, ours for `lease` seconds; several workers never get the same."""
    queue = tables.rescoring
    found = tx.rows(
        select(queue.c.lead_id, queue.c.version, queue.c.since)
        .where(queue.c.claimed_until <= now)
        .order_by(queue.c.since, queue.c.lead_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    if found:
        tx.execute(
            update(queue)
            .where(tx.among(queue.c.lead_id, [row.lead_id for row in found]))
            .values(claimed_until=now + lease)
        )
    return tuple(Due(row.lead_id, row.version, row.since, now + lease) for row in found)


def still_ours(tx: Transaction, taken: Sequence[Due]) -> tuple[Due, ...]:
    """Those that nobody else took meanwhile, because our time was over; nor that were merged or erased."""
    queue = tables.rescoring
    held = select(queue.c.lead_id, queue.c.claimed_until).where(
        tx.among(queue.c.lead_id, [due.lead_id for due in taken])
    )
    until = {row.lead_id: row.claimed_until for row in tx.rows(held.with_for_update())}
    return tuple(due for due in taken if until.get(due.lead_id) == due.until)


def done(tx: Transaction, taken: Sequence[Due]) -> None:
    """These were scored. Those that changed meanwhile are free to be taken again."""
    rows = [{"one": due.lead_id, "seen": due.version} for due in sorted(taken, key=lambda due: due.lead_id)]
    if rows:
        queue = tables.rescoring
        mine = queue.c.lead_id == bindparam("one")
        tx.execute(delete(queue).where(and_(mine, queue.c.version == bindparam("seen"))), rows)
        tx.execute(update(queue).where(mine).values(claimed_until=0), [{"one": row["one"]} for row in rows])


@dataclass(frozen=True)
class Backlog:
    """How many leads wait, how many of them are being scored, and since when the oldest waits (or None)."""

    waiting: int
    claimed: int
    oldest: int | None


def backlog(tx: Transaction, now: int) -> Backlog:
    """The state of the queue, for metrics."""
    queue = tables.rescoring
    claimed = func.sum(case((queue.c.claimed_until > now, 1), else_=0))
    row = tx.rows(select(func.count(), claimed, func.min(queue.c.since)).select_from(queue))[0]
    return Backlog(int(row[0]), int(row[1] or 0), None if row[2] is None else int(row[2]))
