"""From the bytes of a request to leads with their histories.

A request is read in two steps. The frame (`leads`, `as_of`) must be right, else the whole request is refused.
Each lead is then read on its own: what is wrong with one is told beside it and leaves its neighbours alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from predictive_scoring.errors import DuplicateKey, InputError, InvalidValue, NaiveTimestamp
from predictive_scoring.schema import LEAD_CREATED, AttributeChange, Event, Lead, Touch
from predictive_scoring.settings import Project
from predictive_scoring.timeline import parse_instant

from .bodies import MOST_LEADS, AttributeChangeBody, EventBody, ItemNote, LeadBody, Scalar
from .problems import Refused, complaints, safe_name, spoken_place

EARLIEST, LATEST = parse_instant("1970-01-02T00:00:00Z"), parse_instant("2200-01-01T00:00:00Z")
_WARNED_NAMES = 5


@dataclass(frozen=True)
class Frame:
    """A request whose frame is right; `leads` are still raw."""

    leads: Sequence[Any]
    as_of: int | None
    explanation: bool = True


@dataclass
class ReadLeads:
    """What could be read from a request: histories in hand and ids of stored leads, by index, and notes."""

    leads: dict[int, Lead] = field(default_factory=dict)
    stored: dict[int, str] = field(default_factory=dict)
    errors: list[ItemNote] = field(default_factory=list)
    warnings: list[ItemNote] = field(default_factory=list)

    def refuse(self, index: int, lead_id: str | None, error: InputError) -> None:
        """Note an error beside the lead."""
        self.errors.append(
            ItemNote(
                index=index,
                lead_id=lead_id,
                code=error.name,
                what=error.what,
                where=error.where,
                remedy=error.remedy,
            )
        )


def json_of(body: bytes) -> Any:
    """The body parsed. Raises Refused."""
    try:
        # Refuses NaN and Infinity, a nesting deeper than 200 and numbers longer than 4,300 digits by itself.
        return from_json(body, allow_inf_nan=False)
    except ValueError as refused:
        place = str(refused).rpartition(" at ")[2]
        raise Refused(
            "InvalidJson",
            "The body cannot be read as JSON.",
            where=place if place.startswith("line ") else "body",
            remedy="Send one JSON document as described at /docs; use null for a missing number.",
        ) from refused


def read_frame(body: bytes) -> Frame:
    """The frame of a score request. Raises Refused."""
    document = json_of(body)
    if not isinstance(document, dict):
        raise _form("The body is not a JSON object.", "body")
    unknown = [key for key in document if key not in ("leads", "as_of", "explanation")]
    if unknown:
        raise _form(f"The key {safe_name(unknown[0])} is not known.", "body")
    leads = document.get("leads")
    if not isinstance(leads, list) or not leads:
        raise _form("`leads` is not a list of at least one lead.", "leads")
    if len(leads) > MOST_LEADS:
        raise _form(f"`leads` holds more than {MOST_LEADS:,} leads.", "leads")
    explanation = document.get("explanation", True)
    if not isinstance(explanation, bool):
        raise _form("`explanation` is neither true nor false.", "explanation")
    moment = document.get("as_of")
    if moment is None:
        return Frame(leads, None, explanation)
    if not isinstance(moment, str):
        raise _form("`as_of` is not text.", "as_of")
    try:
        return Frame(leads, _instant(moment, "as_of"), explanation)
    except InputError as refused:
        raise Refused("InvalidBody", refused.what, where=refused.where, remedy=refused.remedy) from refused


def _form(detail: str, where: str) -> Refused:
    return Refused(
        "InvalidBody",
        detail,
        where=where,
        remedy=f'Send {{"leads": [...], "as_of": "...Z"}} with 1 to {MOST_LEADS:,} leads; see /docs.',
    )


def _instant(text: str, where: str, *inside: str | int) -> int:
    """Epoch seconds; the refusal does not repeat the text. The place is put together only for a refusal."""
    try:
        moment = parse_instant(text)
    except (InputError, OverflowError) as refused:
        naive = isinstance(refused, NaiveTimestamp)
        raise (NaiveTimestamp if naive else InvalidValue)(
            what="the time has no time zone" if naive else "the text is not a time",
            where=spoken_place(inside, where),
            remedy="Write ISO 8601 with an offset, for example 2026-01-05T09:00:00Z.",
        ) from refused
    if not EARLIEST <= moment <= LATEST:
        raise InvalidValue(
            what="the time lies outside of 1970 to 2199",
            where=spoken_place(inside, where),
            remedy="Check the year of the time.",
        )
    return moment


@dataclass(frozen=True)
class LeadReader:
    """Reads leads of a body against one project."""

    project: Project

    def read(self, raw: Sequence[Any], now: int) -> ReadLeads:
        """Every lead that can be read; notes on the others. `now` dates snapshot leads without `created_at`."""
        found = ReadLeads()
        seen: set[str] = set()
        for index, item in enumerate(raw):
            known = item.get("lead_id") if isinstance(item, dict) else None
            lead_id = known if isinstance(known, str) and 0 < len(known) <= 200 else None
            where = f"leads[{index}]"
            try:
                body = LeadBody.model_validate(item)
                if body.lead_id in seen:
                    raise DuplicateKey(
                        what="the lead stands twice in the request",
                        where=where,
                        remedy="Send each lead once.",
                    )
                seen.add(body.lead_id)
                if body.model_fields_set == {"lead_id"}:
                    found.stored[index] = body.lead_id
                else:
                    found.leads[index], notes = self._lead(body, where, now)
                    found.warnings += [note.model_copy(update={"index": index}) for note in notes]
            except ValidationError as refused:
                complaint = complaints(refused.errors(include_url=False, include_input=False), where)[0]
                found.refuse(
                    index,
                    lead_id,
                    InvalidValue(
                        what=complaint.what, where=complaint.where, remedy="See /docs for the form of a lead."
                    ),
                )
            except InputError as refused:
                found.refuse(index, lead_id, refused)
        return found

    def _lead(self, body: LeadBody, where: str, now: int) -> tuple[Lead, list[ItemNote]]:
        if body.created_at is not None:
            created = _instant(body.created_at, where, "created_at")
        elif self.project.is_snapshot:
            created = now
        else:
            raise InvalidValue(
                what="`created_at` is missing",
                where=where,
                remedy="Send when the lead was created; or `lead_id` alone for a lead of the project's tables.",
            )
        ignored: dict[str, list[str]] = {}
        attributes = self._attributes(body.attributes or {}, f"{where}.attributes", ignored)
        changes = self._changes(body.attribute_changes or (), f"{where}.attribute_changes", ignored)
        events = self._events(body.events or (), f"{where}.events", ignored)
        touches = tuple(
            Touch(
                touch.touch_id,
                touch.action_id,
                touch.channel,
                _instant(touch.occurred_at, where, "touches", number, "occurred_at"),
            )
            for number, touch in enumerate(body.touches or ())
        )
        notes = [_ignored(body.lead_id, where, kind, names) for kind, names in ignored.items()]
        early = sum(event.occurred < created for event in events)
        if early:
            notes.append(
                ItemNote(
                    index=0,
                    lead_id=body.lead_id,
                    code="EventBeforeCreation",
                    what=f"{early} events lie before the lead's creation; they were counted",
                    where=f"{where}.events",
                    remedy="Check `created_at`, or leave it if the person was known before under another name.",
                )
            )
        return Lead(body.lead_id, created, attributes, events, touches, changes), notes

    @cached_property
    def _raw(self) -> dict[str, str]:
        """Kind of every attribute that is sent raw; what a transform reads may be any plain value."""
        kinds: dict[str, str] = {}
        for name, setting in self.project.attributes.items():
            if setting.transform is None:
                kinds[name] = setting.type
            else:
                kinds.setdefault(setting.of or name, "any")
        return kinds

    def _changes(
        self, sent: Sequence[AttributeChangeBody], where: str, ignored: dict[str, list[str]]
    ) -> tuple[AttributeChange, ...]:
        changes = []
        for number, change in enumerate(sent):
            kind = self._raw.get(change.attribute)
            if kind is None:
                ignored.setdefault("attribute", []).append(safe_name(change.attribute))
                continue
            occurred = known = _instant(change.occurred_at, where, number, "occurred_at")
            if change.known_at is not None:
                known = _instant(change.known_at, where, number, "known_at")
            value = _typed(change.value, kind, where, number, "value")
            # Histories hold text, as the table does; the empty text means cleared.
            text = "" if value is None else str(value)
            changes.append(AttributeChange(change.attribute, text, occurred, known))
        return tuple(changes)

    def _attributes(
        self, sent: Mapping[str, Scalar], where: str, ignored: dict[str, list[str]]
    ) -> dict[str, Scalar]:
        contact = self.project.contact
        flags = {*contact.consent.values(), contact.do_not_contact, contact.opted_out} - {None}
        read: dict[str, Scalar] = {}
        for name, value in sent.items():
            if name in self._raw:
                read[name] = _typed(value, self._raw[name], where, name)
            elif name in flags:
                # A text such as "no" would count as true: consent is never guessed.
                if not (value is None or isinstance(value, bool)):
                    raise InvalidValue(
                        what="it is not true, false or null",
                        where=spoken_place((name,), where),
                        remedy="Send a JSON boolean.",
                    )
                read[name] = value
            elif name == contact.time_zone:
                read[name] = _typed(value, "category", where, name)
            else:
                ignored.setdefault("attribute", []).append(safe_name(name))
        return read

    def _events(
        self, sent: Sequence[EventBody], where: str, ignored: dict[str, list[str]]
    ) -> tuple[Event, ...]:
        events: dict[str, Event] = {}
        known_types, declared = self.project.events, self.project.event_properties
        nothing: dict[str, Scalar] = dict.fromkeys(declared)
        for number, event in enumerate(sent):
            event_id, event_type = event.event_id, event.event_type
            if event_id in events:
                raise DuplicateKey(
                    what="the event id stands twice in the lead",
                    where=spoken_place((number, "event_id"), where),
                    remedy="Give every event of a lead its own id, and send each event once.",
                )
            if event_type not in known_types:
                ignored.setdefault("event type", []).append(safe_name(event_type))
                # Leads get exactly one event of this type, made from `created_at`.
                if event_type == LEAD_CREATED:
                    continue
            occurred = known = _instant(event.occurred_at, where, number, "occurred_at")
            if event.known_at is not None:
                known = _instant(event.known_at, where, number, "known_at")
            properties = nothing
            if event.properties:
                properties = dict(nothing)
                for name, value in event.properties.items():
                    if name in declared:
                        properties[name] = _typed(value, declared[name], where, number, "properties", name)
                    else:
                        ignored.setdefault("event property", []).append(safe_name(name))
            events[event_id] = Event(event_id, event_type, occurred, known, properties)
        return tuple(events.values())


def _typed(value: Scalar, kind: str, where: str, *inside: str | int) -> Scalar:
    """The value as the declared type, or as it is (`any`). Categories are text; yes/no and whole numbers are
    spelled as text."""
    if value is None:
        return None
    if kind == "any":
        return str(value).lower() if isinstance(value, bool) else value
    if kind == "number":
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
            raise InvalidValue(
                what="it is not a number",
                where=spoken_place(inside, where),
                remedy="Send a JSON number, or null.",
            )
        return float(value)
    if isinstance(value, float):
        raise InvalidValue(
            what="it is a fraction, not a category",
            where=spoken_place(inside, where),
            remedy="Send text, or null.",
        )
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ignored(lead_id: str, where: str, kind: str, names: Sequence[str]) -> ItemNote:
    distinct = list(dict.fromkeys(names))
    shown = ", ".join(distinct[:_WARNED_NAMES]) + (", …" if len(distinct) > _WARNED_NAMES else "")
    return ItemNote(
        index=0,
        lead_id=lead_id,
        code="Ignored",
        what=f"not declared in the project file, and not read: {kind} {shown}",
        where=where,
        remedy="Check the spelling; /v1/model lists what the model reads.",
    )
