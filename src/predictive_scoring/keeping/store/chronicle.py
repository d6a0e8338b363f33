"""Everything that was told and answered about one lead, as one list, newest first, page by page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, Table, and_, false, or_, select, true

from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.connection import Transaction
from predictive_scoring.keeping.store.identity import lead_of

Kind = Literal["attribute", "consent", "event", "feedback", "outcome", "score", "touch"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry stands: its instant (epoch seconds), its kind, and what tells it from others of its second."""

    at: int
    kind: Kind
    key: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One fact: a row of its kind's table by column."""

    place: Place
    row: Mapping[str, Any]


@dataclass(frozen=True)
class Chronicle:
    """A page, newest first; `more`: there are older entries beyond its last one."""

    lead_id: str
    entries: tuple[Entry, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class _Source:
    table: Table
    instant: str
    key: tuple[str, ...]
    shown: tuple[str, ...]


_SOURCES: Mapping[Kind, _Source] = {
    "attribute": _Source(
        tables.attribute_changes, "occurred", ("attribute", "value_hash"), ("value", "known")
    ),
    "consent": _Source(tables.consents, "occurred", ("channel",), ("granted", "known", "source")),
    "event": _Source(tables.events, "occurred", ("event_id",), ("event_type", "known", "properties")),
    "feedback": _Source(tables.feedback, "occurred", ("feedback_id",), ("verdict", "note", "actor")),
    "outcome": _Source(
        tables.outcomes, "occurred", ("outcome_id",), ("kind", "known", "amount_minor", "currency")
    ),
    "score": _Source(
        tables.scores,
        "scored_at",
        ("cursor",),
        ("as_of", "status", "score", "grade", "readiness", "probability", "bundle"),
    ),
    "touch": _Source(tables.touches, "occurred", ("touch_id",), ("action_id", "channel", "known")),
}

KEYS: Mapping[str, tuple[type, ...]] = {
    kind: tuple(int if name == "cursor" else str for name in source.key) for kind, source in _SOURCES.items()
}
"""Types of a place's `key`, by kind."""


def chronicle(tx: Transaction, lead_id: str, *, before: Place | None = None, limit: int = 100) -> Chronicle:
    """At most `limit` entries of a lead, by any of its ids, older than `before`. Raises UnknownLead."""
    own = lead_of(tx, lead_id)
    found = [entry for kind in KINDS for entry in _entries(tx, own, kind, before, limit + 1)]
    found.sort(key=lambda entry: (entry.place.at, entry.place.kind, entry.place.key), reverse=True)
    return Chronicle(own, tuple(found[:limit]), len(found) > limit)


def _entries(tx: Transaction, lead_id: str, kind: Kind, before: Place | None, limit: int) -> list[Entry]:
    source = _SOURCES[kind]
    columns = source.table.c
    at, keys = columns[source.instant], [columns[name] for name in source.key]
    wanted = select(at, *keys, *(columns[name] for name in source.shown)).where(
        columns.lead_id == lead_id, true() if before is None else _older(at, keys, kind, before)
    )
    rows = tx.rows(wanted.order_by(at.desc(), *(key.desc() for key in keys)).limit(limit))
    names = (source.instant, *source.key, *source.shown)
    return [
        Entry(Place(row[0], kind, tuple(row[1 : 1 + len(keys)])), dict(zip(names, row, strict=True)))
        for row in rows
    ]


def _older(at: Any, keys: list[Any], kind: Kind, before: Place) -> ColumnElement[bool]:
    """The rows of this kind that stand behind `before` in the order of (instant, kind, key)."""
    if kind < before.kind:
        return at <= before.at  # type: ignore[no-any-return]
    if kind > before.kind:
        return at < before.at  # type: ignore[no-any-return]
    less: ColumnElement[bool] = false()
    for key, value in reversed(list(zip(keys, before.key, strict=True))):
        less = or_(key < value, and_(key == value, less))
    return or_(at < before.at, and_(at == before.at, less))
