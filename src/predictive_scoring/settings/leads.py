"""What the tables say about leads: attributes, event types, whom we may contact."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from predictive_scoring.schema import Direction, Group
from predictive_scoring.settings.base import Seconds, Settings, Texts

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SIGNS = re.compile(r"[\W_]+")


def alike(name: str) -> str:
    """The spelling that names of one event type share: `Pricing Viewed`, `pricingViewed` and `pricing-viewed` are
    `pricing_viewed`."""
    return _SIGNS.sub("_", _HUMP.sub("_", name).lower()).strip("_") or name


class AttributeSettings(Settings):
    """A lead attribute that the model may read.

    With `history` its value at a cutoff is the latest one in `sources.attribute_changes` that was known
    before it. Of any other attribute only today's value exists (a column of `leads`), so it must be
    declared `immutable`: otherwise today's value would leak into the past.

    `transform` turns the raw text of the column `of` (default: the attribute's own name) into a shipped
    normal form, for example a job title into a seniority. Of personal data (`pii`), such as an e-mail address, only
    such a form is ever read; the text itself reaches no feature."""

    type: Literal["number", "category"]
    label: str
    concept: str | None = None
    group: Group = "fit"
    direction: Direction | None = None
    immutable: bool = False
    history: bool = False
    of: str | None = None
    transform: str | None = None
    pii: bool = False

    @model_validator(mode="after")
    def _one_reading(self) -> Self:
        if self.pii and self.transform is None:
            raise ValueError(
                "personal data is no feature: read a normal form of it with `transform`, such as email_kind, or "
                "leave the attribute out"
            )
        if self.direction is not None and self.type != "number":
            raise ValueError("`direction` is for numbers: a category has no more and less")
        if self.immutable and self.history:
            raise ValueError(
                "an attribute that never changes needs no history: keep `immutable` or `history`"
            )
        if self.of is not None and self.transform is None:
            raise ValueError("`of` names the raw column of a `transform`; without one, call the attribute so")
        return self


class EventTypeSettings(Settings):
    """What an event type means: its label, and the stage of the buyer's journey it speaks for.

    `names` are what others call it, such as the event names of a tracking plan: messages under them are events of this
    type. Names that differ in capitals, spaces and signs only are the same (see `alike`).
    `exclude` (event property -> values) names events that were no act of a person, such as opens by a mail
    scanner: no feature counts them. `half_lives` replace those of shipped features that fade with time."""

    label: str
    stage: Literal["awareness", "consideration", "decision"] | None = None
    exclude: dict[str, Texts] = Field(default_factory=dict)
    half_lives: tuple[Seconds, ...] = ()
    names: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = ()


class ContactSettings(Settings):
    """Lead columns and events that say whom we may contact, and when."""

    consent: dict[str, str] = Field(default_factory=dict, description="channel -> lead column (true/false)")
    withdrawn_by: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="channel -> event types that withdraw consent"
    )
    do_not_contact: str | None = None
    opted_out: str | None = None
    time_zone: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Lead columns that are read for contact decisions."""
        named = (*self.consent.values(), self.do_not_contact, self.opted_out, self.time_zone)
        return tuple(dict.fromkeys(column for column in named if column))
