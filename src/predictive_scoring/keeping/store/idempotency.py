"""Writes that may be sent twice: the answer is kept under the caller's own key, beside what was written.

Write and answer are one transaction. So a crash leaves both or neither, and of two equal requests at once the
second waits for the first and then reads its answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, select, update

from predictive_scoring.errors import IdempotencyConflict
from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.connection import Transaction
from predictive_scoring.timeline import DAY


@dataclass(frozen=True)
class Answer:
    """What a request was answered; `leads` are those that the body speaks of."""

    status: int
    body: str
    leads: tuple[str, ...] = ()
    replayed: bool = False


def once(
    tx: Transaction,
    *,
    caller: str,
    key: str,
    request_hash: str,
    now: int,
    work: Callable[[], Answer],
    keep: int = DAY,
) -> Answer:
    """Do the work and keep its answer for `keep` seconds; or, where the same request was done before, its answer.

    `request_hash` is the SHA-256 of what was asked (method, address, body). Raises IdempotencyConflict when the
    key came with another request, and whatever `work` raises; then nothing is kept."""
    table = tables.idempotency
    mine = (table.c.caller == caller, table.c.key == key)
    tx.execute(delete(table).where(*mine, table.c.expires <= now))
    claim = tx.insert(table).values(
        caller=caller,
        key=key,
        request_hash=request_hash,
        status=0,
        body="",
        created=now,
        expires=now + keep,
    )
    # PostgreSQL waits here for another transaction with the same key; SQLite let us in one after the other.
    claimed = tx.execute(claim.on_conflict_do_nothing().returning(table.c.key)).all()
    if not claimed:
        found = kept(tx, caller=caller, key=key, request_hash=request_hash, now=now)
        if found is None:
            raise AssertionError("a key that could not be claimed has an answer")
        return found
    answer = work()
    tx.execute(update(table).where(*mine).values(status=answer.status, body=answer.body))
    leads = [{"lead_id": one, "caller": caller, "key": key} for one in sorted(set(answer.leads))]
    tx.insert_rows(tables.idempotency_leads, leads, lambda insert: insert.on_conflict_do_nothing())
    return answer


def kept(tx: Transaction, *, caller: str, key: str, request_hash: str, now: int) -> Answer | None:
    """The answer that is kept for this request; None: the key is new. Raises IdempotencyConflict as `once` does."""
    table = tables.idempotency
    mine = (table.c.caller == caller, table.c.key == key, table.c.expires > now)
    found = tx.rows(select(table).where(*mine))
    if not found:
        return None
    if found[0].request_hash != request_hash:
        raise IdempotencyConflict(
            what="this Idempotency-Key was used for another request",
            where="Idempotency-Key",
            remedy="Use a new key for each request, and the same one only to send the same request again.",
        )
    return Answer(found[0].status, found[0].body, replayed=True)


def forget_expired(tx: Transaction, now: int, limit: int | None = None) -> int:
    """Remove answers whose time is over, at most `limit`; how many."""
    table, about = tables.idempotency, tables.idempotency_leads
    expired = select(table.c.caller, table.c.key).where(table.c.expires <= now).limit(limit)
    gone = [tuple(row) for row in tx.rows(expired)]
    forget(tx, gone)
    for caller, key in gone:
        tx.execute(delete(about).where(about.c.caller == caller, about.c.key == key))
    return len(gone)


def forget(tx: Transaction, answers: list[tuple[str, ...]]) -> None:
    """Remove these answers by (caller, key)."""
    table = tables.idempotency
    for caller, key in answers:
        tx.execute(delete(table).where(table.c.caller == caller, table.c.key == key))
