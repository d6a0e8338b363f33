"""Who is who: ids to leads, and two ids that turn out to be one person.

An alias points to its lead directly; there are no chains. An anonymous visitor belongs to the lead that is
named with it first, and stays theirs when somebody else uses the same browser later.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Table,
    Text,
    bindparam,
    case,
    delete,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects import postgresql

from predictive_scoring.errors import UnknownLead
from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.attributes import merged, read_held, written
from predictive_scoring.keeping.store.connection import Transaction
from predictive_scoring.keeping.store.messages import ANONYMOUS, is_storable
from predictive_scoring.keeping.store.tellings import recall

Link = tuple[str, str, int]
"""An id, the lead's id that it belongs to, and when we learned of it."""


@dataclass(frozen=True)
class Identities:
    """For each id of a batch the lead that it means (None: erased), and the leads that turn out to be another
    one, each with when we learned of it."""

    leads: Mapping[str, str | None]
    moves: Mapping[str, int]


def aliases_of(tx: Transaction, ids: Sequence[str]) -> dict[str, str]:
    """The lead behind each of `ids` that is an alias."""
    alias = tables.lead_aliases
    return {
        row.alias: row.lead_id
        for row in tx.rows(select(alias.c.alias, alias.c.lead_id).where(tx.among(alias.c.alias, ids)))
    }


@dataclass(frozen=True)
class Asked:
    """Ids that somebody asks for as a table in a query, so that its text does not depend on how many they are: the
    column of the ids, the id of the lead behind each, and the two tables joined. Bound by `binding`."""

    id: ColumnElement[str]
    lead_id: ColumnElement[str]
    joined: FromClause

    @classmethod
    def of(cls, is_sqlite: bool) -> Asked:
        """For a database of this kind."""
        if is_sqlite:
            asked = func.json_each(bindparam("asked", type_=Text)).table_valued("value")
        else:
            listed = func.unnest(bindparam("asked", type_=postgresql.ARRAY(Text)))
            asked = listed.table_valued("value").render_derived()
        alias = tables.lead_aliases
        own = func.coalesce(alias.c.lead_id, asked.c.value)
        return cls(asked.c.value, own, asked.outerjoin(alias, alias.c.alias == asked.c.value))

    @staticmethod
    def binding(tx: Transaction, ids: Sequence[str]) -> dict[str, Any]:
        """The parameter of the query. Ids that no database could hold are not looked for."""
        storable = [one for one in ids if is_storable(one)]
        return {"asked": json.dumps(storable) if tx.is_sqlite else storable}


def erased_of(tx: Transaction, ids: Sequence[str]) -> set[str]:
    """Those of `ids` that were erased."""
    hashes = {tx.pseudonym(one): one for one in ids if is_storable(one)}
    stone = tables.tombstones.c.lead_hash
    return {hashes[row.lead_hash] for row in tx.rows(select(stone).where(tx.among(stone, list(hashes))))}


def lead_of(tx: Transaction, lead_id: str) -> str:
    """The lead that an id means. Raises UnknownLead (also for one that was erased)."""
    found = aliases_of(tx, [lead_id]).get(lead_id, lead_id)
    if not tx.rows(select(tables.leads.c.lead_id).where(tx.among(tables.leads.c.lead_id, [found]))):
        raise UnknownLead(
            what="no stored lead has this id",
            where="lead_id",
            remedy="Send the lead first, with an identify message.",
        )
    return found


def identities(tx: Transaction, ids: Sequence[str], links: Iterable[Link]) -> Identities:
    """Work out who is meant. The caller holds the `history` lock, so that nothing changes meanwhile."""
    aliased = aliases_of(tx, ids)
    gone = erased_of(tx, ids)
    meant = {one: aliased.get(one, one) for one in ids}
    # An alias may move on to another lead together with the lead behind it, which the batch need not name.
    meant |= {lead: lead for lead in aliased.values()}
    behind: dict[str, list[str]] = {}
    for one, lead in meant.items():
        behind.setdefault(lead, []).append(one)
    moves: dict[str, int] = {}
    for source, target, known in links:
        if source in gone or target in gone:
            continue
        before, after = meant[source], meant[target]
        if before == after:
            continue
        if source.startswith(ANONYMOUS) and before != source:
            # The browser is another lead's already.
            continue
        moves[before] = known
        moved = behind.pop(before, [])
        meant |= dict.fromkeys(moved, after)
        behind.setdefault(after, []).extend(moved)
    return Identities({one: None if one in gone else lead for one, lead in meant.items()}, moves)


def add_aliases(tx: Transaction, rows: Sequence[Link]) -> None:
    """Make ids that the store does not hold aliases of leads that it does."""
    if rows:
        alias = tables.lead_aliases
        named = [{"alias": one, "lead_id": lead, "known": known} for one, lead, known in sorted(rows)]
        tx.insert_rows(alias, named, lambda insert: insert.on_conflict_do_nothing())


def merge(tx: Transaction, source: str, target: str, known: int) -> None:
    """Make `source` an alias of `target` (both rows exist) and move its whole history.

    Nobody knew before `known` that these facts were about the target: they count from then on, otherwise a
    model would learn from a history that no score could have seen. Needs the locks `history` and `scores`."""
    for table in (
        tables.events,
        tables.touches,
        tables.outcomes,
    ):
        tx.execute(
            update(table)
            .where(table.c.lead_id == source)
            .values(lead_id=target, known=case((table.c.known < known, known), else_=table.c.known))
        )
    for table in (tables.feedback, tables.scores, tables.job_leads, tables.outbox):
        tx.execute(update(table).where(table.c.lead_id == source).values(lead_id=target))
    _merge_attributes(tx, source, target)
    _move_rows(tx, tables.attribute_changes, source, target, known)
    _move_rows(tx, tables.attribute_confirmations, source, target, known)
    _move_rows(tx, tables.consents, source, target, known)
    _move_rows(tx, tables.idempotency_leads, source, target, None)
    for table in (tables.latest_scores, tables.rescoring):
        tx.execute(delete(table).where(table.c.lead_id == source))
    tx.execute(delete(tables.leads).where(tables.leads.c.lead_id == source))
    alias = tables.lead_aliases
    tx.execute(update(alias).where(alias.c.lead_id == source).values(lead_id=target))
    add_aliases(tx, [(source, target, known)])


def _move_rows(tx: Transaction, table: Table, source: str, target: str, known: int | None) -> None:
    """Move rows whose key holds the lead; one that the target has already stays as it is."""
    values = {
        column.name: literal(target).label("lead_id")
        if column.name == "lead_id"
        else case((column < known, known), else_=column).label("known")
        if column.name == "known" and known is not None
        else column
        for column in table.columns
    }
    moved = select(*values.values()).where(table.c.lead_id == source)
    tx.execute(tx.insert(table).from_select(list(values), moved).on_conflict_do_nothing())
    tx.execute(delete(table).where(table.c.lead_id == source))


def _merge_attributes(tx: Transaction, source: str, target: str) -> None:
    leads = tables.leads
    rows = {row.lead_id: row for row in tx.rows(select(leads).where(leads.c.lead_id.in_([source, target])))}
    one, other = rows[target], rows[source]
    mine = read_held(one.attributes, one.attribute_times)
    theirs = read_held(other.attributes, other.attribute_times)
    values, times = written(merged(mine, theirs))
    tx.execute(
        update(leads)
        .where(leads.c.lead_id == target)
        .values(attributes=values, attribute_times=times, updated=max(one.updated, other.updated))
    )
    # The values of one lie between repetitions of the other's.
    recall(tx, {(lead_id, name): 0 for lead_id in (source, target) for name in mine.keys() & theirs.keys()})
