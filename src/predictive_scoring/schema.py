"""The records that every floor shares: leads, events, touches, and the Score document.

Histories are immutable records in epoch seconds (see `timeline`); the Score document is a frozen
pydantic model, because it crosses the HTTP boundary and its JSON schema is published from here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

REFERENCE_SCORE = 50
"""The score of the average lead when the project was first trained."""
SCORE_POINTS_PER_LOG_ODDS = 10.0 / math.log(2.0)
"""Ten score points double the odds, so a contribution in log-odds is this many points."""

LEAD_CREATED = "lead_created"
"""Event type of the one synthetic event that each lead has at its `created_at`."""

Group = Literal["fit", "engagement", "context"]
Direction = Literal["raises", "lowers"]
Stage = Literal["dormant", "awareness", "consideration", "decision"]


class Event(NamedTuple):
    """One dated fact about a lead. `occurred` and `known` are epoch seconds; `known` is when we
    learned of it (equal to `occurred` where the source does not say).

    A tuple, because leads have hundreds of them, and a frozen dataclass takes three times as long to make."""

    event_id: str
    event_type: str
    occurred: int
    known: int
    properties: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """From `occurred` on (epoch seconds; we learned of it at `known`) a lead's attribute has this value;
    the empty text means that it was cleared."""

    attribute: str
    value: str
    occurred: int
    known: int


@dataclass(frozen=True, slots=True)
class Touch:
    """One nurture action that was done to a lead (epoch seconds)."""

    touch_id: str
    action_id: str
    channel: str
    occurred: int


@dataclass(frozen=True, slots=True)
class Lead:
    """A lead with its whole known history. Events and changes may stand in any order.

    `attributes` hold what never changes; an attribute that does change has its history in `changes`, or,
    where a caller knows today's value only, stands in `attributes` and counts as today's."""

    lead_id: str
    created: int
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    touches: tuple[Touch, ...] = ()
    changes: tuple[AttributeChange, ...] = ()


@dataclass(frozen=True, slots=True)
class NurtureContext:
    """What the nurture floor may read about a lead at one instant. Nothing in it is after `as_of`.

    `features` holds every feature and attribute by name (None = missing); `touches` are past touches,
    newest last; `consents` maps a channel to True, False or None (never asked; counts as no)."""

    lead_id: str
    as_of: int
    stage: Stage
    logit: float
    """Calibrated log-odds of converting within the horizon."""
    features: Mapping[str, Any]
    consents: Mapping[str, bool | None] = field(default_factory=dict)
    do_not_contact: bool = False
    time_zone: str | None = None
    touches: tuple[Touch, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One observation about the data: a stable code, how serious, and an example to look at."""

    code: str
    severity: Literal["error", "warning", "info"]
    what: str
    where: str
    remedy: str
    count: int = 0
    example: str | None = None

    def to_document(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "severity": self.severity,
            "what": self.what,
            "where": self.where,
            "remedy": self.remedy,
            "count": self.count,
            "example": self.example,
        }


class Document(BaseModel):
    """Base of the published documents: frozen, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Trend(Document):
    """The same score seven days earlier, compared: `steady` is a change of at most 3 points."""

    direction: Literal["rising", "steady", "falling"]
    change: int = Field(description="Score points since `since`")
    since: str = Field(description="Instant of the earlier score, UTC")


class ExplanationRow(Document):
    """One feature's share of the log-odds."""

    feature: str
    label: str
    value: float | str | bool | None = Field(description="The feature's value; null when it is missing")
    group: Group | Literal["limit"]
    contribution: float = Field(description="Share of the log-odds; 10/ln 2 times it is score points")


class Explanation(Document):
    """`base + sum(contribution) == output == logit(probability)`, to 1e-9."""

    base: float = Field(description="Log-odds of a typical lead")
    output: float = Field(description="Log-odds of this lead")
    rows: tuple[ExplanationRow, ...]


class Reason(Document):
    """A sentence a marketer understands."""

    text: str
    direction: Direction
    points: int = Field(description="Score points of the whole concept, rounded")


class Action(Document):
    """A recommended nurture action."""

    action_id: str
    label: str
    channel: str
    why: str
    evidence: Literal["playbook", "testing", "proven here"]
    expected_uplift: float | None = Field(
        default=None, description="Measured effect in probability; null while only the playbook says so"
    )
    wait_until: str | None = Field(default=None, description="Not before this instant (quiet hours), UTC")


Basis = Literal["points_card", "ridge", "blend"]
"""What a model rests on: hand-written points, points and a ridge regression, or both and boosted trees."""


class Evidence(Document):
    """How much a score rests on."""

    basis: Basis
    conversions: int = Field(description="Conversions the model was trained on")
    effective_sample_size: float | None = Field(
        description="Leads whose observed rate would be as uncertain as this probability; null if not measured"
    )


class HorizonProbability(Document):
    """P(converts within so many days)."""

    days: int
    probability: float


class ModelReference(Document):
    """Which model spoke."""

    name: str
    version: str | None
    bundle: str = Field(description="`sha256:` and the hash of the bundle")


class Score(Document):
    """The answer about one lead; the same document in batch, service, page and command line.

    Where `status` is not `scored`, every number is null and `status_reason` says why."""

    lead_id: str
    as_of: str
    status: Literal["scored", "suppressed", "not_scored"]
    status_reason: str | None = None
    probability: float | None = Field(default=None, description="P(converts within the horizon)")
    interval: tuple[float, float] | None = Field(
        default=None, description="90 % range of the conversion rate of leads with this score"
    )
    horizon_days: int
    horizons: tuple[HorizonProbability, ...] = Field(
        default=(), description="The same on one rising curve of horizons; the main horizon among them"
    )
    expected_days: float | None = Field(
        default=None, description="Mean days to conversion of those who convert within the longest horizon"
    )
    evidence: Evidence | None = None
    score: int | None = Field(default=None, ge=1, le=99)
    percentile: int | None = Field(default=None, ge=0, le=100, description="Share of leads scored lower")
    grade: str | None = Field(default=None, pattern="^[ABC][123]$")
    readiness: Literal["ready", "nurture"] | None = None
    stage: Stage | None = None
    trend: Trend | None = Field(default=None, description="Null when the lead is younger than seven days")
    explanation: Explanation | None = None
    reasons: tuple[Reason, ...] = ()
    actions: tuple[Action, ...] = ()
    actions_reason: str | None = Field(
        default=None, description="Why `actions` is empty; the reason code of the gate or `ready`"
    )
    model: ModelReference


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What the nurture floor answers: actions, best first, or the reason why there are none."""

    actions: tuple[Action, ...]
    reason: str | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    """Reason code by action id, for every action the gate or the ranking turned down."""
