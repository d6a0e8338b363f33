"""The history of one lead as a document: entries of seven kinds, newest first, page by page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from predictive_scoring.schema import Document
from predictive_scoring.timeline import format_instant

from .answering import no_cursor, opaque, read_opaque

if TYPE_CHECKING:
    from predictive_scoring.keeping.store.chronicle import Entry, Place
    from predictive_scoring.keeping.store.connection import Transaction


class Known(Document):
    """Base of the entries that were told."""

    at: str = Field(description="When it happened")
    known_at: str = Field(description="When we learned of it: earlier scores could not see it")


class EventEntry(Known):
    """The lead did something."""

    kind: Literal["event"] = "event"
    event_id: str
    event_type: str
    properties: dict[str, Any]


class AttributeEntry(Known):
    """From `at` on an attribute has this value; null: it was cleared."""

    kind: Literal["attribute"] = "attribute"
    attribute: str
    value: str | None


class TouchEntry(Known):
    """A nurture action was done."""

    kind: Literal["touch"] = "touch"
    touch_id: str
    action_id: str
    channel: str


class ConsentEntry(Known):
    """A channel may be used from `at` on, or may not."""

    kind: Literal["consent"] = "consent"
    channel: str
    granted: bool
    source: str


class OutcomeEntry(Known):
    """How it ended."""

    kind: Literal["outcome"] = "outcome"
    outcome_id: str
    outcome: str
    amount_minor: int | None
    currency: str | None


class FeedbackEntry(Document):
    """What a person said; `actor` is the id of the key that it came with."""

    kind: Literal["feedback"] = "feedback"
    at: str
    feedback_id: str
    verdict: Literal["good", "bad"]
    note: str | None
    actor: str


class ScoreEntry(Document):
    """The lead was scored at `at`, as of `as_of`."""

    kind: Literal["score"] = "score"
    at: str
    as_of: str
    status: str
    score: int | None
    probability: float | None
    grade: str | None
    readiness: str | None
    bundle: str = Field(description="Of the model that spoke")
    cursor: str = Field(description="Names this score in feedback")


Told = Annotated[
    EventEntry | AttributeEntry | TouchEntry | ConsentEntry | OutcomeEntry | FeedbackEntry | ScoreEntry,
    Field(discriminator="kind"),
]


class History(Document):
    """A page of a lead's history, newest first."""

    lead_id: str = Field(description="The lead's own id, also where another one was asked for")
    entries: tuple[Told, ...]
    before: str | None = Field(description="Send it as `before` for the older entries; null: there are none")


def read_history(tx: Transaction, lead_id: str, before: Place | None, limit: int) -> History:
    """A page. Raises UnknownLead."""
    from predictive_scoring.keeping.store.chronicle import chronicle

    found = chronicle(tx, lead_id, before=before, limit=limit)
    last = found.entries[-1].place if found.more else None
    return History(
        lead_id=found.lead_id,
        entries=tuple(_told(entry) for entry in found.entries),
        before=None if last is None else opaque(last.at, last.kind, *last.key),
    )


def place_of_cursor(text: str) -> Place:
    """Where the next page begins. Raises Refused."""
    from predictive_scoring.keeping.store.chronicle import KEYS, Place

    at, kind, *key = read_opaque(text, "before", [(int, str, *types) for types in KEYS.values()])
    if tuple(type(one) for one in key) != KEYS.get(kind):
        raise no_cursor("before")
    return Place(at, kind, tuple(key))


def _told(entry: Entry) -> Told:
    row, at = dict(entry.row), format_instant(entry.place.at)
    known = {"at": at, "known_at": format_instant(row["known"])} if "known" in row else {}
    match entry.place.kind:
        case "event":
            return EventEntry(
                **known,
                event_id=row["event_id"],
                event_type=row["event_type"],
                properties=json.loads(row["properties"]),
            )
        case "attribute":
            return AttributeEntry(**known, attribute=row["attribute"], value=row["value"] or None)
        case "touch":
            return TouchEntry(
                **known, touch_id=row["touch_id"], action_id=row["action_id"], channel=row["channel"]
            )
        case "consent":
            return ConsentEntry(**known, channel=row["channel"], granted=row["granted"], source=row["source"])
        case "outcome":
            return OutcomeEntry(
                **known,
                outcome_id=row["outcome_id"],
                outcome=row["kind"],
                amount_minor=row["amount_minor"],
                currency=row["currency"],
            )
        case "feedback":
            return FeedbackEntry(
                at=at,
                feedback_id=row["feedback_id"],
                verdict=row["verdict"],
                note=row["note"],
                actor=row["actor"],
            )
        case "score":
            return ScoreEntry(
                at=at,
                as_of=format_instant(row["as_of"]),
                status=row["status"],
                score=row["score"],
                probability=row["probability"],
                grade=row["grade"],
                readiness=row["readiness"],
                bundle=row["bundle"],
                cursor=opaque(row["cursor"]),
            )
