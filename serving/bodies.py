"""Bodies of requests and answers: what `/openapi.json` publishes besides the Score document."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from predictive_scoring.schema import Document, Score, Stage, Trend

MOST_LEADS = 1000
MOST_EVENTS = 10_000
MOST_TOUCHES = 1000
MOST_CHANGES = 1000

Id = Annotated[str, Field(min_length=1, max_length=200)]
Name = Annotated[str, Field(min_length=1, max_length=100)]
Text = Annotated[str, Field(max_length=2000)]
Instant = Annotated[
    str, Field(max_length=40, description="ISO 8601 with an offset, e.g. 2026-01-05T09:00:00Z")
]
Scalar = bool | int | float | Text | None


EXAMPLE: dict[str, Any] = {
    "leads": [
        {
            "lead_id": "bar-1",
            "created_at": "2026-01-05T09:00:00Z",
            "attributes": {},
            "events": [
                {"event_id": "1", "event_type": "pricing_view", "occurred_at": "2026-02-01T10:00:00Z"}
            ],
        }
    ],
    "as_of": "2026-02-10T00:00:00Z",
}


class Body(BaseModel):
    """Base of the request bodies: unknown keys refused, nothing converted, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class EventBody(Body):
    """One event of a lead."""

    event_id: Id = Field(description="Unique within the lead")
    event_type: Name = Field(description="As declared in the project file")
    occurred_at: Instant
    known_at: Instant | None = Field(
        default=None, description="When you learned of it; default `occurred_at`"
    )
    properties: dict[Name, Scalar] = Field(default_factory=dict, max_length=100)


class TouchBody(Body):
    """One nurture action that was already done to a lead; caps and cooldowns count it."""

    touch_id: Id
    action_id: Name
    channel: Name
    occurred_at: Instant


class AttributeChangeBody(Body):
    """From `occurred_at` on an attribute of the lead has this value; null: it was cleared."""

    attribute: Name
    value: Scalar
    occurred_at: Instant
    known_at: Instant | None = Field(
        default=None, description="When you learned of it; default `occurred_at`"
    )


class LeadBody(Body):
    """A lead with its whole history, or only `lead_id` for a lead that the project's tables hold."""

    lead_id: Id
    created_at: Instant | None = Field(default=None, description="Required unless the lead is a stored one")
    attributes: dict[Name, Scalar] | None = Field(
        default=None,
        max_length=500,
        description="Columns of the `leads` table: attributes, consent and contact flags",
    )
    attribute_changes: list[AttributeChangeBody] | None = Field(
        default=None,
        max_length=MOST_CHANGES,
        description="History of attributes that change; one sent under `attributes` only counts as today's value",
    )
    events: list[EventBody] | None = Field(default=None, max_length=MOST_EVENTS)
    touches: list[TouchBody] | None = Field(default=None, max_length=MOST_TOUCHES)


class ScoreRequest(Body):
    """Leads to score. Each is judged on its own; a bad one appears in `errors` and spares the others."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    leads: list[LeadBody] = Field(min_length=1, max_length=MOST_LEADS)
    as_of: Instant | None = Field(
        default=None,
        description="The instant to score at. Default: now for leads in the body, and the end of the stored "
        "history for leads sent by id alone.",
    )
    explanation: bool = Field(
        default=True, description="false leaves `explanation` out of the scores; reasons and actions stay"
    )


class ItemNote(Document):
    """What is wrong with (in `errors`) or was left out of (in `warnings`) one lead of the request."""

    index: int = Field(description="Place in `leads`, from 0")
    lead_id: str | None = Field(description="As sent; null where it could not be read")
    code: str = Field(description="Stable name, e.g. NaiveTimestamp, InvalidValue, DuplicateKey, UnknownLead")
    what: str
    where: str
    remedy: str


class ScoreResponse(Document):
    """Scores in the order of the request, without the leads in `errors`."""

    scores: tuple[Score, ...]
    errors: tuple[ItemNote, ...] = ()
    warnings: tuple[ItemNote, ...] = ()


class LeadSummary(Document):
    """One line of the ranked list; the whole Score document is at `/v1/leads/{lead_id}`."""

    rank: int | None = Field(description="1 is the most promising; null where there is no score")
    lead_id: str
    about: tuple[str, ...] = Field(description="The first descriptive attributes of the lead")
    status: str
    status_reason: str | None
    probability: float | None
    score: int | None
    grade: str | None
    readiness: str | None
    stage: Stage | None
    trend: Trend | None
    top_reason: str | None
    next_action: str | None


class LeadPage(Document):
    """A page of the ranked stored leads."""

    as_of: str
    total: int = Field(description="Leads that match the filters")
    limit: int
    offset: int
    leads: tuple[LeadSummary, ...]


class FeatureDocument(Document):
    """A feature that the model reads."""

    name: str
    label: str
    concept: str = Field(description="What it tells about; reasons are given per concept")
    group: str
    kind: str


class ModelFacts(Document):
    """The model that serves: what it is, what it reads, and how it was judged."""

    name: str
    version: str | None
    bundle: str
    description: str
    horizon_days: int
    verdict: str = Field(description="The judgement at training: validated or rejected")
    verdict_reasons: tuple[str, ...]
    reference_odds: float = Field(description="Odds that score 50; every 10 points double them")
    ready_probability: float = Field(
        description="Leads at or above this probability are ready; above 1: none is"
    )
    features: tuple[FeatureDocument, ...]
    metrics: dict[str, Any]


class ModelDocument(ModelFacts):
    """The model that serves, and what is stored beside it."""

    stored_leads: int
    stored_until: str = Field(description="How far the stored history is complete")
