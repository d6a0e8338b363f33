"""What a batch tells of attributes, into the history and beside it.

The history (`attribute_changes`) holds no repetitions, so that reading a lead stays quick however often its fields
are sent; `attribute_confirmations` holds them, a row per message. A value that comes late, into a time for which
another one was told again and again, makes changes of those that follow it: the history is then what it would be,
had everything come in time.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.attributes import Held, spelled, told
from predictive_scoring.keeping.store.connection import Transaction

LeadAttribute = tuple[str, str]
"""A lead's id and the name of an attribute."""


@dataclass
class Tellings:
    """Gathers what is told, lead by lead; `write_confirmations` and `write_changes` keep it, in this order."""

    _changes: list[dict[str, Any]] = field(default_factory=list)
    _confirmed: defaultdict[tuple[str, int, int], dict[str, str]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    _late: dict[LeadAttribute, int] = field(default_factory=dict)

    def tell(
        self, lead_id: str, held: dict[str, Held], name: str, value: Any, occurred: int, known: int
    ) -> bool:
        """`value` was told to hold at `occurred`: noted here and in `held`, today's values of the lead by name.
        Whether that changed anything there (instants: epoch seconds)."""
        before = held.get(name)
        held[name], kind = told(before, value, occurred)
        if kind == "confirmed":
            self.confirm(lead_id, name, value, occurred, known)
        elif kind != "repeated":
            self._changes.append(_change(lead_id, name, spelled(value), occurred, known))
        if kind == "late":
            key = lead_id, name
            self._late[key] = min(occurred, self._late.get(key, occurred))
        return held[name] is not before

    def confirm(self, lead_id: str, name: str, value: Any, occurred: int, known: int) -> None:
        """Today's value was told again."""
        self._confirmed[lead_id, occurred, known][name] = spelled(value)

    @property
    def changed(self) -> set[str]:
        """The leads with something for their history."""
        return {row["lead_id"] for row in self._changes}

    def write_confirmations(self, tx: Transaction) -> None:
        """Keep the repetitions; before leads of the batch are merged."""
        rows = [
            _confirmation(lead_id, attributes, occurred, known)
            for (lead_id, occurred, known), attributes in self._confirmed.items()
        ]
        tx.insert_rows(tables.attribute_confirmations, rows, lambda insert: insert.on_conflict_do_nothing())

    def write_changes(self, tx: Transaction) -> set[str]:
        """Keep the changes; the leads whose history did not have all of them. After `write_confirmations`."""
        recall(tx, self._late)
        return _insert_changes(tx, self._changes)


def recall(tx: Transaction, since: Mapping[LeadAttribute, int]) -> None:
    """Make changes of what was told again of these attributes, each from its instant on (epoch seconds)."""
    if not since:
        return
    kept = tables.attribute_confirmations
    found = tx.rows(
        select(kept).where(
            tx.among(kept.c.lead_id, sorted({lead_id for lead_id, _ in since})),
            kept.c.occurred >= min(since.values()),
        )
    )
    _insert_changes(
        tx,
        [
            _change(row.lead_id, name, value, row.occurred, row.known)
            for row in found
            for name, value in json.loads(row.attributes).items()
            if (row.lead_id, name) in since and row.occurred >= since[row.lead_id, name]
        ],
    )


def _insert_changes(tx: Transaction, rows: list[dict[str, Any]]) -> set[str]:
    changes = tables.attribute_changes
    return set(
        tx.insert_rows(
            changes, rows, lambda insert: insert.on_conflict_do_nothing(), returning=changes.c.lead_id
        )
    )


def _change(lead_id: str, name: str, value: str, occurred: int, known: int) -> dict[str, Any]:
    return {
        "lead_id": lead_id,
        "attribute": name,
        "occurred": occurred,
        "value_hash": _hash(value),
        "value": value,
        "known": known,
    }


def _confirmation(lead_id: str, attributes: Mapping[str, str], occurred: int, known: int) -> dict[str, Any]:
    text = json.dumps(attributes, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return {
        "lead_id": lead_id,
        "occurred": occurred,
        "value_hash": _hash(text),
        "attributes": text,
        "known": known,
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
