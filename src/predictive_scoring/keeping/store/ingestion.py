"""A batch of messages into the store: all of it or nothing, each message with its own answer.

The same batch may be sent again, whole or in part, late or in another order: an event is counted once by its
message's id, and traits that are known already change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import select, update

from predictive_scoring.errors import InputError
from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.attributes import Held, read_held, written
from predictive_scoring.keeping.store.connection import Transaction
from predictive_scoring.keeping.store.identity import Identities, Link, add_aliases, identities, merge
from predictive_scoring.keeping.store.messages import ANONYMOUS, Message, checked
from predictive_scoring.keeping.store.observed import raise_observed
from predictive_scoring.keeping.store.rescoring import mark
from predictive_scoring.keeping.store.tellings import Tellings

Status = Literal["accepted", "duplicate", "erased", "refused"]


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What became of one message. `duplicate`: its event was counted before; `erased`: it is about a lead that
    was erased, and was dropped; `refused`: it cannot be kept, for `refusal`."""

    index: int
    message_id: str
    status: Status
    refusal: InputError | None = None


@dataclass(frozen=True)
class Ingested:
    """The answer to a batch: one result per message, in order, and the leads whose history changed."""

    results: tuple[ItemResult, ...]
    changed: tuple[str, ...] = ()

    def count(self, status: Status) -> int:
        """How many messages have this status."""
        return sum(result.status == status for result in self.results)


@dataclass(slots=True)
class _Row:
    """A lead as it is being changed; `new` is not in the database yet. The two JSON columns are read when a
    trait comes, which most messages have none of."""

    created: int
    created_given: bool
    updated: int
    stored: tuple[str, str] = ("{}", "{}")
    read: dict[str, Held] | None = None
    new: bool = False
    rewritten: bool = False

    @property
    def held(self) -> dict[str, Held]:
        if self.read is None:
            self.read = read_held(*self.stored)
        return self.read


def ingest(tx: Transaction, messages: Sequence[Message]) -> Ingested:
    """Keep a batch. A message that cannot be kept spares the others."""
    refused: dict[int, InputError] = {}
    usable: list[tuple[int, Message, str]] = []
    for index, message in enumerate(messages):
        try:
            usable.append((index, message, checked(message)))
        except InputError as refusal:
            refused[index] = refusal
    found, changed = _keep(tx, usable) if usable else ({}, ())
    results = (
        ItemResult(index, message.message_id, found.get(index, "refused"), refused.get(index))
        for index, message in enumerate(messages)
    )
    return Ingested(tuple(results), changed)


def _keep(
    tx: Transaction, usable: Sequence[tuple[int, Message, str]]
) -> tuple[dict[int, Status], tuple[str, ...]]:
    tx.lock("history")
    who = _identities(tx, [message for _, message, _ in usable])
    results: dict[int, Status] = {}
    about: list[tuple[int, Message, str, str]] = []
    for index, message, properties in usable:
        lead_id = who.leads[message.subject]
        if lead_id is None:
            results[index] = "erased"
        else:
            about.append((index, message, properties, lead_id))
    rows = _rows(tx, {lead_id for *_, lead_id in about} | set(who.moves))
    tellings = Tellings()
    for _, message, _, lead_id in about:
        _tell(rows, lead_id, message, tellings)
    changed = tellings.changed | {one for one, row in rows.items() if row.new}
    known = max(message.known for _, message, _ in usable)
    _write_rows(tx, rows, {lead_id for *_, lead_id in about}, known)
    tellings.write_confirmations(tx)
    changed |= _move(tx, who, rows)
    tellings.write_changes(tx)
    inserted = _write_events(tx, about)
    counted: set[str] = set()
    for index, message, _, lead_id in about:
        fresh = message.message_id in inserted and message.message_id not in counted
        results[index] = "accepted" if fresh or message.event_type is None else "duplicate"
        if fresh and message.event_type is not None:
            counted.add(message.message_id)
            changed.add(lead_id)
    touched = tuple(sorted(changed))
    mark(tx, (one for one in touched if not one.startswith(ANONYMOUS)), known)
    raise_observed(tx, known + 1)
    return results, touched


def _identities(tx: Transaction, messages: Iterable[Message]) -> Identities:
    ids: dict[str, None] = {}
    links: list[Link] = []
    for message in messages:
        ids[message.subject] = None
        for other in (message.visitor, message.previous_id):
            if other is not None and message.lead_id is not None:
                ids[other] = None
                links.append((other, message.lead_id, message.known))
    return identities(tx, list(ids), links)


def _rows(tx: Transaction, lead_ids: Iterable[str]) -> dict[str, _Row]:
    """The leads among `lead_ids` that are stored."""
    leads = tables.leads
    return {
        row.lead_id: _Row(row.created, row.created_given, row.updated, (row.attributes, row.attribute_times))
        for row in tx.rows(select(leads).where(tx.among(leads.c.lead_id, sorted(lead_ids))))
    }


def _tell(rows: dict[str, _Row], lead_id: str, message: Message, tellings: Tellings) -> None:
    """Note in the lead's row, and for its history, what the message says of it."""
    row = rows.get(lead_id)
    if row is None:
        row = rows[lead_id] = _Row(message.known, False, message.known, new=True)
    if message.created is not None:
        if not row.created_given or message.created < row.created:
            row.created, row.created_given, row.rewritten = message.created, True, True
    elif not row.created_given and message.known < row.created:
        row.created, row.rewritten = message.known, True
    for name, value in message.traits.items():
        if tellings.tell(lead_id, row.held, name, value, message.occurred, message.known):
            row.rewritten = True


def _write_rows(tx: Transaction, rows: Mapping[str, _Row], touched: set[str], known: int) -> None:
    leads = tables.leads
    written_rows, seen = [], []
    for lead_id in sorted(touched):
        row = rows[lead_id]
        if not (row.new or row.rewritten):
            seen.append(lead_id)
            continue
        values, times = row.stored if row.read is None else written(row.read)
        written_rows.append(
            {
                "lead_id": lead_id,
                "identified": not lead_id.startswith(ANONYMOUS),
                "created": row.created,
                "created_given": row.created_given,
                "updated": max(row.updated, known),
                "attributes": values,
                "attribute_times": times,
            }
        )
    tx.insert_rows(
        leads,
        written_rows,
        lambda insert: insert.on_conflict_do_update(
            index_elements=[leads.c.lead_id],
            set_={column.name: insert.excluded[column.name] for column in leads.c if not column.primary_key},
        ),
    )
    if seen:
        later = (tx.among(leads.c.lead_id, seen), leads.c.updated < known)
        tx.execute(update(leads).where(*later).values(updated=known))


def _move(tx: Transaction, who: Identities, rows: Mapping[str, _Row]) -> set[str]:
    """Make the merges of the batch; the leads that grew by them."""
    aliases: list[Link] = []
    grown: set[str] = set()
    for source, known in who.moves.items():
        target = who.leads[source]
        if target is None:
            raise AssertionError("a lead that was erased is not merged")
        if source not in rows:
            aliases.append((source, target, known))
            continue
        if not grown:
            tx.lock("scores")
        merge(tx, source, target, known)
        grown.add(target)
    add_aliases(tx, aliases)
    return grown


def _write_events(tx: Transaction, about: Iterable[tuple[int, Message, str, str]]) -> set[str]:
    """Insert the events; the ids of those that were not there yet."""
    events = tables.events
    rows: dict[str, dict[str, Any]] = {}
    for _, message, properties, lead_id in about:
        if message.event_type is not None:
            rows.setdefault(
                message.message_id,
                {
                    "event_id": message.message_id,
                    "lead_id": lead_id,
                    "event_type": message.event_type,
                    "occurred": message.occurred,
                    "known": message.known,
                    "properties": properties,
                },
            )
    return set(
        tx.insert_rows(
            events,
            list(rows.values()),
            lambda insert: insert.on_conflict_do_nothing(),
            returning=events.c.event_id,
        )
    )
