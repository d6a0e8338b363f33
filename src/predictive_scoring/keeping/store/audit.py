"""The audit log: who did what, in a chain of hashes that shows every later change.

Each row holds SHA-256 over the hash before it and its own content. Nothing personal stands in it: leads appear
as keyed hashes, callers as the ids of their keys. Whoever may write to the database could still rewrite the
whole chain; who keeps the newest hash elsewhere sees that too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.connection import Transaction

FIRST = "0" * 64
"""What the first row follows."""
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: an action of `actor` at an instant (epoch seconds), on a lead (`subject`, a keyed hash) or none."""

    number: int
    at: int
    actor: str
    action: str
    subject: str | None
    details: str
    previous: str
    hash: str


@dataclass(frozen=True)
class Verdict:
    """What a check of the chain found: how many rows, the newest hash, and the first broken row with the reason."""

    rows: int
    head: str
    broken: int | None = None
    reason: str = ""

    @property
    def is_whole(self) -> bool:
        return self.broken is None


def note(
    tx: Transaction,
    at: int,
    actor: str,
    action: str,
    *,
    lead_id: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Add a row, in the transaction of what it tells. `details` must hold nothing personal."""
    log = tables.audit_log
    number = tx.lock("audit")
    before = tx.rows(select(log.c.hash).where(log.c.number == number - 1))
    previous = before[0].hash if before else FIRST
    subject = None if lead_id is None else tx.pseudonym(lead_id)
    text = json.dumps(dict(details or {}), sort_keys=True, separators=(",", ":"))
    row = Entry(number, at, actor, action, subject, text, previous, "")
    tx.execute(log.insert(), {**_content(row), "previous": previous, "hash": _hash(row)})


def _content(row: Entry) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("number", "at", "actor", "action", "subject", "details")}


def _hash(row: Entry) -> str:
    canonical = json.dumps(_content(row), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{row.previous}\n{canonical}".encode()).hexdigest()


def entries(tx: Transaction, after: int = 0, *, lead_id: str | None = None) -> Iterator[Entry]:
    """The rows beyond number `after`, in order; with `lead_id` only those about that lead."""
    log = tables.audit_log
    wanted = select(*(log.c[name] for name in Entry.__slots__)).order_by(log.c.number).limit(_PAGE)
    if lead_id is not None:
        wanted = wanted.where(log.c.subject == tx.pseudonym(lead_id))
    while found := tx.rows(wanted.where(log.c.number > after)):
        yield from (Entry(*row) for row in found)
        after = found[-1].number


def verify(tx: Transaction, head: str | None = None) -> Verdict:
    """Walk the chain. `head` is a hash that was noted elsewhere and must still be in it."""
    number, previous = 0, FIRST
    seen = head is None or head == FIRST
    for row in entries(tx):
        number += 1
        if row.number != number:
            return Verdict(number - 1, previous, number, "the row is missing")
        if row.previous != previous:
            return Verdict(number - 1, previous, number, "it does not follow from the row before it")
        if _hash(row) != row.hash:
            return Verdict(number - 1, previous, number, "its content was changed")
        previous = row.hash
        seen = seen or previous == head
    if number < tx.counter("audit"):
        return Verdict(number, previous, number + 1, "the newest rows are missing")
    if not seen:
        return Verdict(number, previous, number + 1, "the hash that was noted elsewhere is not in the chain")
    return Verdict(number, previous)
