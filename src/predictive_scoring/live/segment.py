"""Segment's `batch` document as messages for the store, as its libraries and servers send it.

Source: Segment, "HTTP Tracking API Source" and "Spec: Common Fields" (the calls identify, track, page, screen, group
and alias; four timestamps). Keys that are not read here are tolerated: the shape is theirs. An item that cannot be
read spares its neighbours.

When an item happened, in this order:

    receivedAt there          Segment's servers saw it: `timestamp` is corrected already and counts as written
    sentAt and a time there   received - (sentAt - time), so that the sender's clock does not matter; a clock that is
                              behind ours by up to a minute (or a batch that long under way) counts as right, so
                              that the same batch sent again tells the same times
    a time alone              as written; up to a minute ahead of us it is now
    none                      now

`time` is `originalTimestamp`, or else `timestamp`. What lies further ahead is kept and counts when its time has come.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from predictive_scoring.errors import InputError, InvalidDocument, InvalidValue, NaiveTimestamp
from predictive_scoring.keeping.store.messages import Message
from predictive_scoring.settings import Project
from predictive_scoring.settings.leads import alike
from predictive_scoring.timeline import MINUTE, age, parse_instant

MOST_ITEMS = 5000
TOLERANCE = MINUTE
"""Seconds by which a sender's clock may be wrong without being corrected or warned of."""
PAGE_VIEW = "page_view"
"""Event type of a page or screen that no event type names."""
_SHOWN = 5
_TELLING = re.compile(r"[A-Za-z][A-Za-z0-9 _.-]{0,63}")
_CREATED = ("createdAt", "created_at")
_OF_BOTH = frozenset(
    ("address", "avatar", "description", "email", "id", "name", "phone", "website", *_CREATED)
)
"""Traits that a person and a group both have; a group's are kept behind `group_`."""
_PLACES = {
    "message_id": "messageId",
    "lead_id": "userId",
    "anonymous_id": "anonymousId",
    "previous_id": "previousId",
    "event_type": "event",
    "occurred": "timestamp",
    "created": "traits.createdAt",
}


@dataclass(frozen=True, slots=True)
class Warned:
    """Something about several items of a batch that were kept all the same."""

    code: str
    count: int
    what: str
    remedy: str


@dataclass(frozen=True)
class SegmentBatch:
    """What a batch says. `indexes` are the places of `messages` in it, `refusals` the errors of the other items by
    place."""

    messages: tuple[Message, ...] = ()
    indexes: tuple[int, ...] = ()
    refusals: Mapping[int, InputError] = field(default_factory=dict)
    warnings: tuple[Warned, ...] = ()


def place_of(index: int, place: str) -> str:
    """Where the item holds what a message calls `place`: `batch[3].userId`."""
    return f"batch[{index}].{_PLACES.get(place, place)}"


class SegmentReader:
    """Reads batches for one project: `names` of event types are those of its `events`."""

    def __init__(self, project: Project) -> None:
        self._declared = frozenset(project.events)
        self._named = {
            alike(name): kind for kind, setting in project.events.items() for name in setting.names
        }
        self._types = {alike(kind): kind for kind in project.events} | self._named

    def read(self, document: object, received: int) -> SegmentBatch:
        """The messages of a parsed body that arrived at `received` (epoch seconds); they become known then.

        Raises InvalidDocument where it is no batch at all."""
        if not isinstance(document, dict) or not isinstance(document.get("batch"), list):
            raise InvalidDocument(
                what="the body is no object with a list `batch`",
                where="batch",
                remedy='Send {"batch": [{"type": "track", "userId": "…", "event": "…"}]}, as Segment\'s libraries do.',
            )
        items = document["batch"]
        if len(items) > MOST_ITEMS:
            raise InvalidDocument(
                what=f"the batch holds more than {MOST_ITEMS:,} items",
                where="batch",
                remedy="Send them in several requests.",
            )
        reading = _Reading(self, received, document.get("sentAt"))
        messages, indexes, refusals = [], [], {}
        for index, item in enumerate(items):
            try:
                messages.append(reading.message(item))
                indexes.append(index)
            except InputError as refused:
                refusals[index] = type(refused)(
                    what=refused.what, where=place_of(index, refused.where), remedy=refused.remedy
                )
        return SegmentBatch(tuple(messages), tuple(indexes), refusals, reading.warnings())

    def event_type(self, name: str) -> str:
        """The event type that a `track` call means by `name`. One that is not declared is kept in the spelling in
        which it could be."""
        if name in self._declared:
            return name
        key = alike(name)
        return self._types.get(key, key)

    def page_type(self, *names: object) -> str:
        """The event type that a page of this name or category stands for. Its name alone is not enough: a page
        called Call is no call."""
        for name in names:
            if isinstance(name, str) and (kind := self._named.get(alike(name))) is not None:
                return kind
        return PAGE_VIEW

    def is_declared(self, event_type: str) -> bool:
        """Whether the project names this event type."""
        return event_type in self._declared


class _Reading:
    """One batch being read."""

    def __init__(self, reader: SegmentReader, received: int, sent_at: object) -> None:
        self._reader, self._received = reader, received
        self._counts: Counter[str] = Counter()
        self._undeclared: dict[str, None] = {}
        self._types: dict[str, str] = {}
        self._sent_at = sent_at
        self._sent: int | None = None
        if sent_at is not None:
            try:
                self._sent = _instant(sent_at, "sentAt")
            except InputError:
                self._counts["UnreadableSentAt"] += 1

    def message(self, item: object) -> Message:
        """The item's message. Raises InputError, whose `where` is a place within the item."""
        if not isinstance(item, dict):
            raise _refusal("it is not an object", "type")
        lead_id, visitor = _identity(item, "userId"), _identity(item, "anonymousId")
        kind = item.get("type")
        event_type = previous = created = None
        properties: Mapping[str, Any] = {}
        traits: Mapping[str, Any] = {}
        if kind == "track":
            event_type, properties = self._track(item), _object(item, "properties")
        elif kind in ("page", "screen"):
            event_type, properties = self._page(item)
        elif kind == "identify":
            traits, created = _traits(item)
        elif kind == "group":
            traits = _group(item)
        elif kind == "alias":
            previous = _identity(item, "previousId")
            if previous is None and visitor is None:
                raise _refusal("it is missing", "previousId")
            # Segment says of neither kind which one it is.
            visitor = visitor or previous
        else:
            raise _refusal("it is none of identify, track, page, screen, group and alias", "type")
        occurred = self._occurred(item)
        return Message(
            _identity(item, "messageId") or self._own_id(item),
            occurred,
            self._received,
            lead_id,
            visitor,
            previous,
            event_type,
            properties,
            traits,
            created,
        )

    def _track(self, item: Mapping[str, Any]) -> str:
        name = item.get("event")
        if not isinstance(name, str) or not name.strip():
            raise _refusal("it is no text", "event")
        kind = self._types.get(name)
        if kind is None:
            kind = self._types[name] = self._reader.event_type(name)
        self._count(kind, name)
        return kind

    def _page(self, item: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        properties = _object(item, "properties")
        name, category = item.get("name"), item.get("category")
        kind = self._reader.page_type(name, category, properties.get("name"), properties.get("category"))
        self._count(kind, kind)
        told = {key: value for key, value in (("name", name), ("category", category)) if value is not None}
        return kind, {**told, **properties}

    def _count(self, kind: str, name: str) -> None:
        if not self._reader.is_declared(kind):
            self._counts["UndeclaredEventType"] += 1
            if len(self._undeclared) < _SHOWN:
                self._undeclared[name if _TELLING.fullmatch(name) else "(another name)"] = None

    def _occurred(self, item: Mapping[str, Any]) -> int:
        received = self._received
        stamp, original = item.get("timestamp"), item.get("originalTimestamp")
        corrected = item.get("receivedAt") is not None
        place = "timestamp" if original is None or (corrected and stamp is not None) else "originalTimestamp"
        if item.get(place) is None:
            return received
        occurred = _instant(item[place], place)
        if not corrected:
            own = item.get("sentAt")
            sent = self._sent if own is None or own == self._sent_at else _instant(own, "sentAt")
            if sent is not None and not 0 <= age(sent, received) <= TOLERANCE:
                occurred = received - age(occurred, sent)
        ahead = -age(occurred, received)
        if ahead > TOLERANCE:
            self._counts["FutureTime"] += 1
        elif ahead > 0:
            return received
        return occurred

    def _own_id(self, item: Mapping[str, Any]) -> str:
        """An id out of what the item says, so that the same item sent again is a duplicate. Without a time of its own
        an item cannot be told from a later one that says the same: then the time of sending is part of it."""
        self._counts["NoMessageId"] += 1
        said = {key: value for key, value in item.items() if key not in ("sentAt", "receivedAt", "messageId")}
        if said.get("timestamp") is None and said.get("originalTimestamp") is None:
            said["sentAt"] = item.get("sentAt") or self._sent_at or self._received
        text = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:48]}"

    def warnings(self) -> tuple[Warned, ...]:
        """What was counted."""
        texts = {
            "UndeclaredEventType": (
                f"kept, but no model reads it yet: event type {', '.join(self._undeclared)}",
                "Check the spelling; declare it under `events` in the project file, or add it to the `names` of one.",
            ),
            "FutureTime": (
                f"items lie more than {TOLERANCE} seconds ahead; they count when their time has come",
                "Check the sender's clock.",
            ),
            "NoMessageId": (
                "items have no `messageId`; they got one out of what they say",
                "Send an id of your own with each item, and the same one when you send it again.",
            ),
            "UnreadableSentAt": (
                "the batch's `sentAt` is no time with an offset; times were taken as written",
                "Write ISO 8601 with an offset, for example 2026-01-05T09:00:00Z.",
            ),
        }
        return tuple(
            Warned(code, self._counts[code], what, remedy)
            for code, (what, remedy) in texts.items()
            if self._counts[code]
        )


def _refusal(what: str, place: str, remedy: str = "See docs/api.md for the form of an item.") -> InvalidValue:
    return InvalidValue(what=what, where=place, remedy=remedy)


def _identity(item: Mapping[str, Any], place: str) -> str | None:
    """An id as text; none where it is missing, null or empty, as browsers send it."""
    value = item.get(place)
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise _refusal("it is no text", place)


def _object(item: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    value = item.get(place)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _refusal("it is not an object", place)
    return value


def _instant(value: object, place: str) -> int:
    """Epoch seconds; the refusal does not repeat the text."""
    try:
        if isinstance(value, str):
            return parse_instant(value)
        naive = False
    except (InputError, OverflowError) as refused:
        naive = isinstance(refused, NaiveTimestamp)
    raise (NaiveTimestamp if naive else InvalidValue)(
        what="the time has no time zone" if naive else "it is not a time",
        where=place,
        remedy="Write ISO 8601 with an offset, for example 2026-01-05T09:00:00Z.",
    )


def _traits(item: Mapping[str, Any]) -> tuple[Mapping[str, Any], int | None]:
    """What an `identify` call says of a person, and since when they are known. (The traits in the context of other
    calls repeat what a device was told some time ago, and would undo what the CRM said since.)"""
    context = _object(item, "context").get("traits")
    traits = {**(context if isinstance(context, dict) else {}), **_object(item, "traits")}
    created = [traits.pop(name) for name in _CREATED if name in traits]
    told = next((value for value in created if value is not None and value != ""), None)
    return traits, None if told is None else _instant(told, "traits.createdAt")


def _group(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a `group` call says of a person's company, as attributes of the person."""
    traits = {
        f"group_{name}" if name in _OF_BOTH else name: value
        for name, value in _object(item, "traits").items()
    }
    group_id = _identity(item, "groupId")
    return traits if group_id is None else {**traits, "group_id": group_id}
