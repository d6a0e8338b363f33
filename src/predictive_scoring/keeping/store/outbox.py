"""Messages for others, such as webhooks: kept with the write that caused them, delivered until they arrive.

A message that was delivered is gone; one that was refused too often is dead and waits for a person. Delivery
is at least once: a worker that dies between the answer and the commit sends it again, under the same id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, case, delete, func, select, update

from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.connection import Transaction


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message: where to, what kind, about whom (one lead at most), and its body as text."""

    destination: str
    event_type: str
    payload: str
    lead_id: str | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message in the outbox. `attempts` were made; `last_error` is the name of what stopped the last one."""

    message_id: int
    destination: str
    event_type: str
    payload: str
    lead_id: str | None
    created: int
    attempts: int
    due: int
    last_error: str | None


def post(tx: Transaction, messages: Sequence[Outgoing], now: int) -> None:
    """Put messages into the outbox, due at once."""
    tx.insert_rows(
        tables.outbox,
        [
            {
                "destination": one.destination,
                "event_type": one.event_type,
                "lead_id": one.lead_id,
                "payload": one.payload,
                "created": now,
                "attempts": 0,
                "due": now,
                "dead": False,
            }
            for one in messages
        ],
    )


def take_due(tx: Transaction, now: int, limit: int, lease: int) -> tuple[Waiting, ...]:
    """Up to `limit` messages that are due, oldest first, ours for `lease` seconds."""
    box = tables.outbox
    found = tx.rows(
        _waiting()
        .where(box.c.dead.is_(False), box.c.due <= now)
        .order_by(box.c.due, box.c.message_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = [row.message_id for row in found]
    tx.execute(update(box).where(box.c.message_id.in_(ids)).values(due=now + lease))
    return tuple(Waiting(*row) for row in found)


def delivered(tx: Transaction, message_id: int) -> None:
    """It arrived: forget it."""
    tx.execute(delete(tables.outbox).where(tables.outbox.c.message_id == message_id))


def not_delivered(
    tx: Transaction, message_id: int, error: str, *, attempts: int, due: int, dead: bool = False
) -> None:
    """It did not arrive, for `error` (a name, nothing personal), in `attempts` so far: to be tried again at `due`
    (epoch seconds), or `dead`. Nothing happens to one that is gone, because its lead was erased."""
    box = tables.outbox
    values = {"attempts": attempts, "due": due, "dead": dead, "last_error": error[: tables.MOST_NAME]}
    tx.execute(update(box).where(box.c.message_id == message_id).values(**values))


def dead_letters(tx: Transaction, limit: int = 100) -> tuple[Waiting, ...]:
    """Messages that were given up, oldest first."""
    box = tables.outbox
    found = tx.rows(_waiting().where(box.c.dead.is_(True)).order_by(box.c.message_id).limit(limit))
    return tuple(Waiting(*row) for row in found)


def revive(tx: Transaction, now: int, message_ids: Sequence[int] | None = None) -> int:
    """Try dead messages again from the beginning: these, or all. How many."""
    box = tables.outbox
    which = [box.c.dead.is_(True)] + ([] if message_ids is None else [box.c.message_id.in_(message_ids)])
    values = {"dead": False, "attempts": 0, "due": now}
    return int(tx.execute(update(box).where(*which).values(**values)).rowcount)


def outbox_counts(tx: Transaction) -> tuple[int, int]:
    """How many messages wait for delivery, and how many are dead."""
    box = tables.outbox
    dead = func.sum(case((box.c.dead.is_(True), 1), else_=0))
    every, given_up = tx.rows(select(func.count(), dead).select_from(box))[0]
    return int(every) - int(given_up or 0), int(given_up or 0)


def _waiting() -> Select[Any]:
    box = tables.outbox
    return select(*(box.c[name] for name in Waiting.__slots__))
