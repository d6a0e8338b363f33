"""The subject report: everything that the store holds about one lead, as one JSON document."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from predictive_scoring.errors import UnknownLead
from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.audit import entries
from predictive_scoring.keeping.store.connection import Transaction
from predictive_scoring.keeping.store.erasure import ids_of
from predictive_scoring.keeping.store.messages import is_storable
from predictive_scoring.keeping.vectors import TornLine, VectorLog
from predictive_scoring.timeline import format_instant

_INSTANTS = {"created", "updated", "occurred", "known", "as_of", "scored_at", "since", "due", "at", "expires"}
_DOCUMENTS = {"attributes", "properties", "document", "vector", "reasons", "details", "attribute_times"}
_WITHIN = {"attribute_times", "value_hash", "claimed_until"}
"""Columns that say nothing about the lead."""


def subject_report(tx: Transaction, lead_id: str, vectors: Sequence[VectorLog] = ()) -> dict[str, Any]:
    """Every row about the lead, by table, times as UTC text. Raises UnknownLead when there is none at all, and
    UnreadableFile for kept vectors that cannot be read."""
    ids = ids_of(tx, lead_id)
    rows = {
        table.name: [_plain(row) for row in tx.rows(select(table).where(tx.among(table.c.lead_id, ids)))]
        for table in tables.OF_A_LEAD
    }
    answers = tables.idempotency
    kept = [
        _plain(row)
        for one in rows.pop("idempotency_leads")
        for row in tx.rows(
            select(answers).where(answers.c.caller == one["caller"], answers.c.key == one["key"])
        )
    ]
    audit = [
        {"at": format_instant(entry.at), "actor": entry.actor, "action": entry.action}
        for one in ids
        if is_storable(one)
        for entry in entries(tx, lead_id=one)
    ]
    lines = [
        {
            "as_of": format_instant(line.as_of),
            "served_at": format_instant(line.served_at),
            "source": line.source,
            "bundle": line.bundle,
            "values": dict(line.values),
        }
        for log in vectors
        for line in log.read()
        if not isinstance(line, TornLine) and line.lead_id in ids
    ]
    if not (any(rows.values()) or kept or lines):
        raise UnknownLead(
            what="nothing is held about this lead",
            where="lead_id",
            remedy="Check the id; an erased lead leaves nothing to report.",
        )
    return {
        "lead_id": ids[0],
        "ids": list(ids),
        **rows,
        "kept_answers": kept,
        "kept_vectors": lines,
        "audit": audit,
    }


def _plain(row: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in row._mapping.items():
        if name in _WITHIN:
            continue
        if name in _INSTANTS and value is not None:
            plain[name] = format_instant(value)
        elif name in _DOCUMENTS and value is not None:
            plain[name] = json.loads(value)
        else:
            plain[name] = value
    return plain
