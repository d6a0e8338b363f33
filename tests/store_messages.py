"""Messages about leads, drawn for the tests of the store."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.messages import Message
from predictive_scoring.timeline import parse_instant

if TYPE_CHECKING:
    from predictive_scoring.keeping.store.connection import Store

NOON = parse_instant("2026-11-10T12:00:00Z")


def event(message_id: str, lead_id: str | None = "L-1", at: int = 0, **more: Any) -> Message:
    """A page view `at` seconds past noon, known a second later."""
    more = {"event_type": "page_view", "known": NOON + at + 1, **more}
    return Message(message_id, NOON + at, lead_id=lead_id, **more)


def identify(message_id: str, lead_id: str | None = "L-1", at: int = 0, **traits: Any) -> Message:
    """Traits of a lead, told `at` seconds past noon."""
    return Message(message_id, NOON + at, NOON + at + 1, lead_id, traits=traits)


def drawn(seed: int, size: int, leads: int = 20) -> list[Message]:
    """Events, traits and visitors of some leads, in the order in which they happened."""
    chance = random.Random(seed)
    messages = []
    for number in range(size):
        lead, kind = f"L-{chance.randrange(leads):02d}", chance.random()
        # Distinct seconds: of one second the order is the greatest text, which other tests look at.
        if kind < 0.6:
            properties = {"topic": chance.choice(["a", "b", None]), "duration_seconds": chance.randrange(90)}
            messages.append(event(f"e-{number}", lead, number, properties=properties))
        elif kind < 0.8:
            traits = {"title": chance.choice(["VP", "Clerk"]), "company_size": chance.choice([10, 20.5])}
            messages.append(identify(f"i-{number}", lead, number, **traits))
        elif kind < 0.9:
            messages.append(event(f"v-{number}", None, number, anonymous_id=f"{lead}-browser"))
        else:
            messages.append(event(f"b-{number}", lead, number, anonymous_id=f"{lead}-browser"))
    return messages


def ingested(store: Store, *messages: Message) -> list[str]:
    """The status of each message, sent as one batch."""
    from predictive_scoring.keeping.store.ingestion import ingest

    return [result.status for result in store.write(lambda tx: ingest(tx, messages)).results]


def waiting(store: Store) -> set[str]:
    """The leads that are to be scored."""
    return {row.lead_id for row in store.read(lambda tx: tx.rows(select(tables.rescoring.c.lead_id)))}
