"""The playbook: what could be done to a lead, for whom it is meant, and what people believe it does.

A playbook is a YAML document written by marketing (data/projects/sample/playbook.yaml explains each key in place).
It is checked when read, travels inside the model bundle as JSON, and is named by a hash of its content, so that
every recommendation can be traced to the rules that made it.

Money (`value_per_conversion`, `cost`) is in one currency of the reader's choice. Effects are in log-odds of
converting within the model's horizon: 0.1 raises the odds by about a tenth, 0.7 doubles them.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Annotated, Any, NoReturn, Self

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError, WithJsonSchema, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from predictive_scoring import timeline
from predictive_scoring.document import parse_document
from predictive_scoring.errors import InvalidDocument, InvalidSetting
from predictive_scoring.nurture.conditions import Condition, Predicate, compile_condition, names
from predictive_scoring.nurture.quiet_hours import find_zone
from predictive_scoring.schema import Document, Stage

SAY_WORDS = 12
"""Longest half-sentence of an action, in words: leaves room for stage and rule in one sentence of 25."""
LARGEST_EFFECT = 2.0
"""Log-odds; a factor of 7.4 on the odds. A larger belief is a typing error, not marketing."""

_CLOCK = re.compile(r"^([01]?\d|2[0-3]):([0-5]\d)$")


def _seconds(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError("expected a duration with its unit, for example 21d")  # noqa: TRY004 - see conditions._scalar
    try:
        return timeline.parse_duration(value)
    except InvalidSetting as refused:
        raise ValueError(f"{refused.what}. {refused.remedy}") from refused


def _minutes(value: Any) -> int:
    found = _CLOCK.match(value.strip()) if isinstance(value, str) else None
    if not found:
        # YAML reads an unquoted 20:00 as the number 1200, and 800 could be either 8:00 or 13:20.
        raise ValueError('expected a time of day in quotes, for example "20:00"')
    return int(found[1]) * 60 + int(found[2])


def _version(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _sentence_part(value: str) -> str:
    return value.strip().rstrip(".!;, ")


Duration = Annotated[
    int,
    BeforeValidator(_seconds),
    PlainSerializer(timeline.format_duration, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["21d", "12h"]}),
]
"""Seconds, written `21d`, `2w`, `12h`."""
ClockTime = Annotated[
    int,
    BeforeValidator(_minutes),
    PlainSerializer(lambda minutes: f"{minutes // 60:02d}:{minutes % 60:02d}", return_type=str),
    WithJsonSchema({"type": "string", "examples": ["20:00"]}),
]
"""Minutes after local midnight, written `"20:00"`."""


class _Part(Document):
    """A frozen piece of a playbook. Changing a copy validates it again, and derived values are never carried over."""

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002 pydantic's
        return type(self).model_validate({**_document(self), **(update or {})})


class QuietHours(_Part):
    """Local times of day between which nobody is contacted: start included, end excluded, midnight may lie between."""

    start: ClockTime = 20 * 60
    end: ClockTime = 8 * 60

    @model_validator(mode="after")
    def _is_a_span(self) -> Self:
        if self.start == self.end:
            raise ValueError(
                "start and end are the same time; set quiet_hours: false on channels that have none"
            )
        return self


class Cap(_Part):
    """At most `max` touches of one channel in any rolling window of `per`."""

    max: int = Field(ge=1)
    per: Duration


class Defaults(_Part):
    """What holds for every action of the playbook."""

    value_per_conversion: float = Field(
        gt=0, description="Worth of one conversion, in the currency of the costs"
    )
    quiet_hours: QuietHours = QuietHours()
    caps: dict[str, Cap] = Field(
        default_factory=dict, description="Cap by channel; a channel without one has no cap"
    )
    default_time_zone: str = Field(default="UTC", description="IANA zone of leads whose own zone is unknown")

    @model_validator(mode="after")
    def _zone_exists(self) -> Self:
        if find_zone(self.default_time_zone) is None:
            _refuse(
                ("default_time_zone",),
                f"unknown time zone {self.default_time_zone!r}; write an IANA name, e.g. Europe/Paris",
            )
        return self


class Channel(_Part):
    """How a lead is reached. Both protections are on unless switched off."""

    consent: bool = Field(default=True, description="Needs the lead's consent; missing consent counts as no")
    quiet_hours: bool = Field(default=True, description="Waits for the end of the quiet hours")


class Effect(_Part):
    """Believed effect on the log-odds of converting, for leads outside and inside `best_for`."""

    outside: float = Field(ge=-LARGEST_EFFECT, le=LARGEST_EFFECT)
    inside: float | None = Field(default=None, ge=-LARGEST_EFFECT, le=LARGEST_EFFECT)
    sd: float = Field(default=0.1, gt=0, le=LARGEST_EFFECT, description="Standard deviation of the belief")


class PlaybookAction(_Part):
    """One thing that could be done to a lead."""

    action_id: str = Field(pattern="^[a-z][a-z0-9_]*$")
    label: str = Field(min_length=1, description="What people call it")
    channel: str
    topic: str | None = Field(default=None, description="Groups actions on pages and in reports")
    stages: tuple[Stage, ...] = Field(min_length=1)
    eligible: Condition | None = Field(default=None, description="Hard rule: never offered where it is false")
    best_for: Condition | None = Field(
        default=None, description="Soft rule: effect.inside applies where it holds"
    )
    cooldown: Duration | None = Field(
        default=None, description="Wait before the same action to the same lead"
    )
    cost: float = Field(ge=0, description="Cost of doing it once, in the currency of value_per_conversion")
    capacity: int | None = Field(default=None, ge=0, description="How many leads of one batch may get it")
    effect: Effect
    say: Annotated[str, BeforeValidator(lambda v: _sentence_part(v) if isinstance(v, str) else v)] = Field(
        min_length=1, description="Half-sentence that says what it does for the lead"
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len(set(self.stages)) < len(self.stages):
            _refuse(("stages",), "a stage is listed twice")
        inside, outside = self.effect.inside, self.effect.outside
        if self.best_for is not None and inside is None:
            _refuse(("effect",), "best_for needs effect.inside: the effect on the leads it names")
        if self.best_for is None and inside is not None:
            _refuse(("effect", "inside"), "effect.inside needs a best_for that says which leads are meant")
        if inside is not None and inside < outside:
            _refuse(
                ("effect", "inside"),
                f"inside ({inside:g}) is below outside ({outside:g}): best_for names whom it works better on",
            )
        if len(self.say.split()) > SAY_WORDS:
            _refuse(("say",), f"say has {len(self.say.split())} words; use at most {SAY_WORDS}")
        return self

    @cached_property
    def is_eligible(self) -> Predicate:
        """Compiled `eligible`; True of everybody where there is none."""
        return _everybody if self.eligible is None else compile_condition(self.eligible)

    @cached_property
    def is_best(self) -> Predicate:
        """Compiled `best_for`; True of nobody where there is none."""
        return _nobody if self.best_for is None else compile_condition(self.best_for)

    def effect_on(self, features: Mapping[str, Any]) -> float:
        """Believed effect on this lead's log-odds."""
        inside = self.effect.inside
        return inside if inside is not None and self.is_best(features) else self.effect.outside


def _everybody(_: Mapping[str, Any]) -> bool:
    return True


def _nobody(_: Mapping[str, Any]) -> bool:
    return False


class Playbook(_Part):
    """All actions and the rules that every one of them obeys."""

    name: str = Field(min_length=1)
    version: Annotated[str, BeforeValidator(_version)] = Field(min_length=1)
    defaults: Defaults
    channels: dict[str, Channel] = Field(min_length=1)
    actions: tuple[PlaybookAction, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        seen: set[str] = set()
        for at, action in enumerate(self.actions):
            if action.action_id in seen:
                _refuse(("actions", at, "action_id"), f"the action_id {action.action_id!r} stands twice")
            seen.add(action.action_id)
            if action.channel not in self.channels:
                _refuse(("actions", at, "channel"), _unknown("channel", action.channel, self.channels))
        for channel in self.defaults.caps:
            if channel not in self.channels:
                _refuse(("defaults", "caps", channel), _unknown("channel", channel, self.channels))
        return self

    @cached_property
    def content_hash(self) -> str:
        """`sha256:` and the hash of the canonical JSON: the same for any spelling (`2w`, `14d`) or order of keys."""
        canonical = json.dumps(self.to_document(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()

    def to_document(self) -> dict[str, Any]:
        """Plain JSON data that `from_document` reads back to an equal playbook."""
        return _document(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], *, name: str = "playbook") -> Playbook:
        """The playbook in plain JSON data, called `name` in messages. Raises InvalidDocument naming the key."""
        # Not through the YAML reader: YAML 1.1 takes JSON's 1e-05 for a text.
        try:
            return cls.model_validate(document)
        except ValidationError as refused:
            complaint = refused.errors()[0]
            raise InvalidDocument(
                what=str(complaint["msg"]).removeprefix("Value error, "),
                where=f"{name}, {'.'.join(map(str, complaint['loc'])) or 'the document'}",
                remedy="Correct the playbook's YAML file and read it again with parse_playbook.",
            ) from refused


def parse_playbook(text: str, name: str) -> Playbook:
    """The playbook in a YAML (or JSON) `text`, called `name` in messages.

    Raises InvalidDocument naming key and line."""
    return parse_document(text, name, Playbook, described_in="docs/playbook.md")


def check_names(playbook: Playbook, known_names: Collection[str]) -> None:
    """Refuse rules over features that do not exist: such a rule would silently be false for every lead.

    Raises InvalidDocument naming the action, the rule and the closest known names."""
    known = set(known_names)
    for action in playbook.actions:
        for key, rule in (("eligible", action.eligible), ("best_for", action.best_for)):
            for name in names(rule) if rule else ():
                if name not in known:
                    close = difflib.get_close_matches(name, sorted(known), n=3)
                    raise InvalidDocument(
                        what=f"unknown feature {name!r}",
                        where=f"playbook {playbook.name!r}, action {action.action_id!r}, {key}",
                        remedy=f"Did you mean {' or '.join(close)}?" if close
                        else "Use the name of an attribute or of a feature of this project.",
                    )  # fmt: skip


def _document(part: Document) -> dict[str, Any]:
    return part.model_dump(mode="json", by_alias=True, exclude_none=True)


def _unknown(kind: str, name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
    return f"unknown {kind} {name!r}; {hint}"


def _refuse(path: tuple[str | int, ...], message: str) -> NoReturn:
    """Complain about a key below the model being validated, so that the document's line is found."""
    # "{text}" is a template filled from the context: braces in the message itself must not be read as one.
    detail = InitErrorDetails(
        type=PydanticCustomError("playbook", "{text}", {"text": message}), loc=path, input=None
    )
    raise ValidationError.from_exception_data("Playbook", [detail])
