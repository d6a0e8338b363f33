"""Leads with their histories into the store in bulk, as a table or an export holds them.

Loaded again, whole or in part, a lead adds nothing that is known. Ids of leads that were erased are left out, and
a lead that became another one here is added to that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, select

from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.attributes import Held, read_held, written
from predictive_scoring.keeping.store.connection import Transaction
from predictive_scoring.keeping.store.identity import identities
from predictive_scoring.keeping.store.messages import as_json
from predictive_scoring.keeping.store.rescoring import mark
from predictive_scoring.keeping.store.tellings import Tellings
from predictive_scoring.schema import LEAD_CREATED, Lead


@dataclass(frozen=True)
class Loaded:
    """How many leads were read, how many of these were left out because they were erased, and how many events were
    new."""

    leads: int = 0
    erased: int = 0
    events: int = 0

    def __add__(self, other: Loaded) -> Loaded:
        return Loaded(self.leads + other.leads, self.erased + other.erased, self.events + other.events)


def load_leads(tx: Transaction, leads: Sequence[Lead], until: int, now: int) -> Loaded:
    """Keep leads (each once) whose history is complete up to `until`. Those that are new or changed are to be scored
    (`now`, epoch seconds).

    Attributes that carry no date hold since the lead's creation where the lead is new, and since `until` where the
    store knew another value. A missing value says nothing."""
    tx.lock("history")
    meant = identities(tx, [lead.lead_id for lead in leads], ()).leads
    present = [(lead, own) for lead in leads if (own := meant[lead.lead_id]) is not None]
    rows = {
        row.lead_id: row
        for row in tx.rows(
            select(tables.leads).where(tx.among(tables.leads.c.lead_id, sorted({own for _, own in present})))
        )
    }
    lead_rows: dict[str, dict[str, Any]] = {}
    tellings = Tellings()
    changed: set[str] = set()
    for lead, own in present:
        row = rows.get(own)
        before = None if row is None else read_held(row.attributes, row.attribute_times)
        held = _attributes(lead, own, before, until, tellings)
        values, times = written(held)
        lead_rows[own] = {
            "lead_id": own,
            "identified": True,
            "created": lead.created
            if row is None or not row.created_given
            else min(lead.created, row.created),
            "created_given": True,
            "updated": until if row is None else max(until, row.updated),
            "attributes": values,
            "attribute_times": times,
        }
        if row is None or (row.attributes, row.created) != (values, lead_rows[own]["created"]):
            changed.add(own)
    tx.insert_rows(
        tables.leads,
        list(lead_rows.values()),
        lambda insert: insert.on_conflict_do_update(
            index_elements=[tables.leads.c.lead_id],
            set_={
                column.name: insert.excluded[column.name]
                for column in tables.leads.c
                if not column.primary_key
            },
        ),
    )
    tellings.write_confirmations(tx)
    changed |= tellings.write_changes(tx)
    events = [
        {
            "event_id": event.event_id,
            "lead_id": own,
            "event_type": event.event_type,
            "occurred": event.occurred,
            "known": event.known,
            "properties": _properties(event.properties),
        }
        for lead, own in present
        for event in lead.events
        if event.event_type != LEAD_CREATED
    ]
    fresh = _add(tx, tables.events, events)
    touched = _add(
        tx,
        tables.touches,
        [
            {
                "touch_id": touch.touch_id,
                "lead_id": own,
                "action_id": touch.action_id,
                "channel": touch.channel,
                "occurred": touch.occurred,
                "known": touch.occurred,
                "propensity": None,
                "holdout": None,
            }
            for lead, own in present
            for touch in lead.touches
        ],
    )
    mark(tx, {*changed, *fresh, *touched}, now)
    return Loaded(len(leads), len(leads) - len(present), len(fresh))


def _attributes(
    lead: Lead, own: str, before: Mapping[str, Held] | None, until: int, tellings: Tellings
) -> dict[str, Held]:
    """Today's values; what is new to the history goes to `tellings`."""
    held = dict(before or {})
    for change in sorted(lead.changes, key=lambda one: (one.occurred, one.attribute, one.value)):
        tellings.tell(own, held, change.attribute, change.value or None, change.occurred, change.known)
    dated = {change.attribute for change in lead.changes}
    for name, value in lead.attributes.items():
        if value is None or name in dated:
            continue
        if before is None:
            held[name] = Held(value, lead.created, max(lead.created, until))
            tellings.confirm(own, name, value, held[name].confirmed, until)
        else:
            tellings.tell(own, held, name, value, until, until)
    return held


def _properties(properties: Mapping[str, Any]) -> str:
    said = {name: value for name, value in properties.items() if value is not None}
    return as_json(said, "properties") if said else "{}"


def _add(tx: Transaction, table: Table, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Insert the rows that are not there; the lead of each."""
    return tx.insert_rows(table, rows, lambda insert: insert.on_conflict_do_nothing(), table.c.lead_id)
