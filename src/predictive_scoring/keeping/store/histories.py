"""Stored leads read back, one or many, in a fixed number of queries.

With the project the values come typed exactly as the project's tables would give them, so that a lead read
here and the same lead in an export (`export`) have the same features.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Select, Table, func, select

from predictive_scoring.errors import UnknownLead
from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.attributes import spelled
from predictive_scoring.keeping.store.connection import Transaction
from predictive_scoring.keeping.store.identity import Asked, aliases_of
from predictive_scoring.schema import AttributeChange, Event, Lead, Touch
from predictive_scoring.settings import Project

YES, NO = frozenset({"true", "t", "yes", "y", "1", "on"}), frozenset({"false", "f", "no", "n", "0", "off"})
"""Words that CRMs send for a flag."""


def read_lead(tx: Transaction, lead_id: str, project: Project | None = None) -> Lead:
    """One lead with its whole history; an alias is followed. Raises UnknownLead."""
    found = read_leads(tx, [lead_id], project)
    if lead_id not in found:
        raise UnknownLead(
            what="no stored lead has this id",
            where="lead_id",
            remedy="Send the lead first, with an identify message.",
        )
    return found[lead_id]


def read_leads(tx: Transaction, lead_ids: Sequence[str], project: Project | None = None) -> dict[str, Lead]:
    """Leads with their whole histories by the id that was asked for; unknown ids are left out.

    Consent that was recorded stands among the attributes, in the column that the project names for its
    channel; the newest word counts, be it a trait or a recorded consent."""
    asked = list(dict.fromkeys(lead_ids))
    leads = tables.leads
    rows = {row.lead_id: row for row in tx.rows(select(leads).where(tx.among(leads.c.lead_id, asked)))}
    meant = {one: one for one in rows}
    missing = [one for one in asked if one not in rows]
    if missing and (aliased := aliases_of(tx, missing)):
        real = [one for one in aliased.values() if one not in rows]
        rows |= {row.lead_id: row for row in tx.rows(select(leads).where(tx.among(leads.c.lead_id, real)))}
        meant |= {one: lead for one, lead in aliased.items() if lead in rows}
    ids = sorted(rows)
    events = _by_lead(tx, tables.events, ids, ("occurred", "event_id"))
    changes = _by_lead(tx, tables.attribute_changes, ids, ("occurred", "attribute", "value_hash"))
    touches = _by_lead(tx, tables.touches, ids, ("occurred", "touch_id"))
    consents = (
        _by_lead(tx, tables.consents, ids, ("occurred",))
        if project is None or project.contact.consent
        else {}
    )
    typed = Typing(project)
    found = {
        one: Lead(
            lead_id=one,
            created=row.created,
            attributes=typed.attributes(row.attributes, row.attribute_times, consents.get(one, ())),
            events=tuple(
                Event(e.event_id, e.event_type, e.occurred, e.known, typed.properties(e.properties))
                for e in events.get(one, ())
            ),
            touches=tuple(
                Touch(t.touch_id, t.action_id, t.channel, t.occurred) for t in touches.get(one, ())
            ),
            changes=tuple(
                AttributeChange(c.attribute, c.value, c.occurred, c.known)
                for c in changes.get(one, ())
                if typed.reads_change(c.attribute)
            ),
        )
        for one, row in rows.items()
    }
    return {one: found[meant[one]] for one in asked if one in meant}


def attributes_today(tx: Transaction, lead_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Today's attributes of leads by their own ids, as they were told; without their events."""
    leads = tables.leads
    found = tx.rows(select(leads.c.lead_id, leads.c.attributes).where(tx.among(leads.c.lead_id, lead_ids)))
    return {row.lead_id: json.loads(row.attributes) for row in found}


def attributes_behind(tx: Transaction, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """The same by any of a lead's ids, in one query; unknown ids are left out."""
    found = tx.execute(_attributes_behind(tx.is_sqlite), Asked.binding(tx, ids)).all()
    return {row.asked: json.loads(row.attributes) for row in found}


@cache
def _attributes_behind(is_sqlite: bool) -> Select[tuple[str, str]]:
    # Made once: putting a statement together takes SQLAlchemy longer than SQLite takes to answer it, and this one is
    # asked with every lead that is scored.
    leads, asked = tables.leads, Asked.of(is_sqlite)
    return (
        select(asked.id.label("asked"), leads.c.attributes)
        .select_from(asked.joined)
        .join(leads, leads.c.lead_id == asked.lead_id)
    )


def _by_lead(tx: Transaction, table: Table, ids: Sequence[str], order: Iterable[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    statement = select(table).where(tx.among(table.c.lead_id, ids))
    for row in tx.rows(statement.order_by(table.c.lead_id, *(table.c[name] for name in order))):
        found.setdefault(row.lead_id, []).append(row)
    return found


def lead_ids(tx: Transaction, after: str = "", limit: int = 1000) -> tuple[str, ...]:
    """Ids of known leads (no anonymous visitors) beyond `after`, in order: a page of all of them."""
    leads = tables.leads
    page = select(leads.c.lead_id).where(leads.c.identified, leads.c.lead_id > after)
    return tuple(row.lead_id for row in tx.rows(page.order_by(leads.c.lead_id).limit(limit)))


def count_leads(tx: Transaction) -> int:
    """How many known leads there are (no anonymous visitors)."""
    leads = tables.leads
    return int(tx.rows(select(func.count()).select_from(leads).where(leads.c.identified))[0][0])


class Typing:
    """Gives stored values the types that a project declares; without a project they stay as they came."""

    def __init__(self, project: Project | None) -> None:
        self.project = project
        self.kinds: dict[str, str] = {}
        self.dated: frozenset[str] = frozenset()
        self.property_kinds: Mapping[str, str] = {} if project is None else project.event_properties
        if project is not None:
            contact = project.contact
            self.dated = frozenset(setting.of or name for name, setting in project.attributes.items())
            flags = {*contact.consent.values(), contact.do_not_contact, contact.opted_out}
            for name, setting in project.attributes.items():
                # One with a history is read from its changes: today's value must not stand in for a missing past.
                if not setting.history:
                    kind = setting.type if setting.transform is None else "category"
                    self.kinds[setting.of or name] = kind
            if project.conversion.until is not None:
                self.kinds[project.conversion.until] = "category"
            for name in contact.columns:
                self.kinds.setdefault(name, "flag" if name in flags else "category")

    def reads_change(self, attribute: str) -> bool:
        """Whether the history of this attribute is read."""
        return self.project is None or attribute in self.dated

    def attributes(self, values: str, times: str, consents: Sequence[Any] = ()) -> dict[str, Any]:
        """The lead's attributes out of its JSON columns and its recorded consents (oldest first)."""
        raw: dict[str, Any] = json.loads(values)
        if self.project is None:
            return raw
        columns = self.project.contact.consent
        if consents and columns:
            held: Mapping[str, Sequence[int]] = json.loads(times)
            for consent in consents:
                column = columns.get(consent.channel)
                # A withdrawal of the same second wins.
                if column is not None and (
                    column not in held
                    or (consent.occurred, not consent.granted) >= (held[column][1], raw[column] is False)
                ):
                    raw[column] = consent.granted
        return {name: typed(raw.get(name), kind) for name, kind in self.kinds.items()}

    def properties(self, text: str) -> dict[str, Any]:
        """An event's properties out of their JSON."""
        raw: dict[str, Any] = {} if text == "{}" else json.loads(text)
        if self.project is None:
            return raw
        return {name: typed(raw.get(name), kind) for name, kind in self.property_kinds.items()}


def typed(value: Any, kind: str) -> Any:
    """The value as a `number`, `category` or `flag`; None where it is none. A flag is never guessed."""
    if value is None:
        return None
    if kind == "flag":
        word = spelled(value).strip().lower()
        return True if word in YES else False if word in NO else None
    if kind == "number":
        if isinstance(value, bool | list | dict):
            return None
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return number if math.isfinite(number) else None
    return spelled(value)
