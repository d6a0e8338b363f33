"""What may be told about a lead, one message at a time, and whether it can be kept.

A message is what the CRM, a connector or a web page sends: who (`lead_id`, or an anonymous visitor), what
happened (`event_type` with its properties), what is now true of them (`traits`), or that two ids are one
person. It comes with two instants: `occurred`, and `known`, when we learned of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from predictive_scoring.errors import InputError, InvalidValue
from predictive_scoring.keeping.store.tables import MOST_ID, MOST_NAME
from predictive_scoring.schema import LEAD_CREATED
from predictive_scoring.timeline import parse_instant

ANONYMOUS = "anonymous:"
"""An anonymous id stands in the store behind this prefix, apart from the ids of leads."""
MOST_TRAITS = 500
MOST_BYTES = 32_768
"""Size of a message's properties, and of its traits, as JSON."""
EARLIEST, LATEST = parse_instant("1970-01-02T00:00:00Z"), parse_instant("2200-01-01T00:00:00Z")


@dataclass(frozen=True, slots=True)
class Message:
    """One fact. `occurred`, `known` and `created` (the lead's own creation, where the sender knows it) are epoch
    seconds. Ids: `lead_id` is the CRM's; `anonymous_id` a visitor's; a message with both says that they are one
    person; `previous_id` is an id that `lead_id` had before. A trait that is None was cleared."""

    message_id: str
    occurred: int
    known: int
    lead_id: str | None = None
    anonymous_id: str | None = None
    previous_id: str | None = None
    event_type: str | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    traits: Mapping[str, Any] = field(default_factory=dict)
    created: int | None = None

    @property
    def visitor(self) -> str | None:
        """The anonymous id as the store writes it."""
        return None if self.anonymous_id is None else f"{ANONYMOUS}{self.anonymous_id}"

    @property
    def subject(self) -> str:
        """The id that the message is about, before aliases are looked up."""
        return self.lead_id if self.lead_id is not None else f"{ANONYMOUS}{self.anonymous_id}"


def checked(message: Message) -> str:
    """The message's properties as JSON. Raises InvalidValue for what a database could not keep, or would not
    give back as it came."""
    for place in ("message_id", "lead_id", "anonymous_id", "previous_id"):
        _check_id(getattr(message, place), place)
    if message.lead_id is None and message.anonymous_id is None:
        raise refusal("it says nobody's id", "lead_id", "Send `lead_id`, or `anonymous_id` of a visitor.")
    if message.previous_id is not None and message.lead_id is None:
        raise refusal("an earlier id needs the id that follows it", "lead_id", "Send both ids.")
    for place, instant in (
        ("occurred", message.occurred),
        ("known", message.known),
        ("created", message.created),
    ):
        if instant is not None and not EARLIEST <= instant < LATEST:
            raise refusal("the time lies outside 1970 to 2199", place, "Check the sender's clock and units.")
    if message.event_type is not None:
        check_text(message.event_type, "event_type", MOST_NAME)
        if message.event_type == LEAD_CREATED:
            raise refusal(f"{LEAD_CREATED!r} is made from the lead's creation", "event_type", "Leave it out.")
    if message.traits:
        if len(message.traits) > MOST_TRAITS:
            raise refusal(f"it has more than {MOST_TRAITS} traits", "traits", "Send what a model may read.")
        for name in message.traits:
            check_text(name, "traits", MOST_NAME)
        as_json(message.traits, "traits")
    return as_json(message.properties, "properties") if message.properties else "{}"


def _check_id(value: str | None, place: str) -> None:
    if value is None:
        if place == "message_id":
            raise refusal("it has no id", place, "Give every message its own id.")
        return
    check_text(value, place, MOST_ID)
    if place in ("lead_id", "previous_id") and value.startswith(ANONYMOUS):
        raise refusal(f"an id of a lead begins with {ANONYMOUS!r}", place, "Send it as `anonymous_id`.")


def check_text(value: object, place: str, most: int) -> None:
    """Raises InvalidValue unless it is text of 1 to `most` characters that any database can hold."""
    if not (isinstance(value, str) and 0 < len(value) <= most and is_storable(value)):
        raise refusal(
            f"it is not text of 1 to {most} characters", place, "Send plain Unicode text without NUL."
        )


def is_storable(text: str) -> bool:
    """Whether any database can hold the text: no NUL, which PostgreSQL refuses, and no half of a surrogate pair.

    An id that is not storable is nobody's."""
    if text.isprintable():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def as_json(value: Any, place: str) -> str:
    """The value as JSON, which reads back as it was. Raises InvalidValue."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (ValueError, TypeError, RecursionError) as refused:
        raise refusal(
            "a value is no JSON: NaN, infinity, a number without end, broken text or too deep a nesting",
            place,
            "Send text, finite numbers, true, false or null.",
        ) from refused
    if size > MOST_BYTES:
        raise refusal(f"it takes more than {MOST_BYTES} bytes", place, "Send what a model may read.")
    if "\\u0000" in text:
        raise refusal("a text holds a NUL", place, "Remove it.")
    return text


def refusal(what: str, place: str, remedy: str) -> InputError:
    """What is wrong with a message. It never repeats a value."""
    return InvalidValue(what=what, where=place, remedy=remedy)
