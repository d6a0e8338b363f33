"""The project file `scoring.yaml`, typed: what the tables mean, what a conversion is, how to split.

Parsed from text by `parse_project`; files are opened by `data.sources`. Durations are written `30d` and
held in seconds, instants are written with an offset and held in epoch seconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)

from predictive_scoring.document import parse_document
from predictive_scoring.errors import PredictiveScoringError
from predictive_scoring.schema import LEAD_CREATED, Direction, Group
from predictive_scoring.timeline import DAY, parse_duration, parse_instant


def _duration(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except PredictiveScoringError as refused:
            raise ValueError(f"{refused.what}. {refused.remedy}") from refused
    return _seconds(value, info, "a duration has a unit: write for example 30d")


def _instant(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str):
        try:
            return parse_instant(value)
        except PredictiveScoringError as refused:
            raise ValueError(f"{refused.what}. {refused.remedy}") from refused
    return _seconds(value, info, "an instant has an offset: write for example 2026-01-05T09:00:00Z")


def _seconds(value: object, info: ValidationInfo, refusal: str) -> object:
    """Whole seconds, as a bundle keeps them. In a file that people write, `30` would be 30 seconds."""
    if isinstance(value, bool) or (info.context or {}).get("written"):
        raise ValueError(refusal)
    return value


def _texts(value: object) -> object:
    """One text or several. YAML reads `true` as a boolean, which every engine spells `true`."""
    if isinstance(value, dict | BaseModel):
        return value
    several = value if isinstance(value, list | tuple) else [value]
    return [
        str(one).lower() if isinstance(one, bool) else str(one) if isinstance(one, int) else one
        for one in several
    ]


Texts = Annotated[tuple[str, ...], BeforeValidator(_texts), Field(min_length=1)]
Seconds = Annotated[int, BeforeValidator(_duration), Field(gt=0)]
Instant = Annotated[int, BeforeValidator(_instant)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", max_length=64)]


class Settings(BaseModel):
    """Base of every block: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TableSource(Settings):
    """One table: a CSV or Parquet file, a query over named files, or a table (or query) of the warehouse.

    `table` names a table or view of the database that `--engine postgres` connects to; `sql` without
    `tables` is a query that the database answers. `missing` lists texts that mean "no value". `time_zone`
    declares that times without an offset in this table are local times of that IANA zone; without it such
    times are refused."""

    path: str | None = None
    sql: str | None = None
    table: str | None = None
    tables: dict[str, str] = Field(default_factory=dict)
    separator: str | None = Field(default=None, min_length=1, max_length=1)
    missing: tuple[str, ...] = ()
    time_zone: str | None = None

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if sum(way is not None for way in (self.path, self.sql, self.table)) != 1:
            raise ValueError(
                "give one of `path`, `sql` (over the files in `tables`) and `table` (of the warehouse)"
            )
        if self.tables and self.sql is None:
            raise ValueError("`tables` names the files that `sql` reads: remove it, or write the query")
        return self

    @property
    def in_warehouse(self) -> bool:
        """Whether the rows are in a database, not in files."""
        return self.table is not None or (self.sql is not None and not self.tables)


class Sources(Settings):
    """Either `leads` and `events` (and `attribute_changes`, `touches`), or one `snapshot` table with a row
    per lead."""

    leads: TableSource | None = None
    events: TableSource | None = None
    attribute_changes: TableSource | None = None
    touches: TableSource | None = None
    snapshot: TableSource | None = None

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        if self.snapshot is not None:
            if self.leads or self.events or self.touches or self.attribute_changes:
                raise ValueError(
                    "`snapshot` stands alone: remove `leads`, `events`, `attribute_changes` and `touches`"
                )
        elif self.leads is None or self.events is None:
            raise ValueError("give `leads` and `events`, or a `snapshot`")
        return self


class AttributeSettings(Settings):
    """A lead attribute that the model may read.

    With `history` its value at a cutoff is the latest one in `sources.attribute_changes` that was known
    before it. Of any other attribute only today's value exists (a column of `leads`), so it must be
    declared `immutable`: otherwise today's value would leak into the past.

    `transform` turns the raw text of the column `of` (default: the attribute's own name) into a shipped
    normal form, for example a job title into a seniority."""

    type: Literal["number", "category"]
    label: str
    concept: str | None = None
    group: Group = "fit"
    direction: Direction | None = None
    immutable: bool = False
    history: bool = False
    of: str | None = None
    transform: str | None = None

    @model_validator(mode="after")
    def _one_reading(self) -> Self:
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

    `exclude` (event property -> values) names events that were no act of a person, such as opens by a mail
    scanner: no feature counts them."""

    label: str
    stage: Literal["awareness", "consideration", "decision"] | None = None
    exclude: dict[str, Texts] = Field(default_factory=dict)


class WaiverSettings(Settings):
    """A finding of the audit that somebody looked into and takes responsibility for: training goes on."""

    code: str = Field(pattern=r"^PS\d{3}$")
    feature: str
    reason: str = Field(min_length=10)


class ConversionSettings(Settings):
    """What counts as conversion.

    For event logs: the first event of type `event` within `horizon` of the cutoff; `until` names a lead
    column that ends the window earlier (a campaign's last day). For snapshots: `column` equals
    `positive`."""

    event: Name | None = None
    horizon: Seconds
    until: str | None = None
    column: str | None = None
    positive: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.event is None) == (self.column is None):
            raise ValueError("give `event` (event log) or `column` with `positive` (snapshot)")
        if self.column is not None and self.positive is None:
            raise ValueError("`column` needs `positive`: the value that means converted")
        return self

    @property
    def horizon_days(self) -> int:
        return max(1, round(self.horizon / DAY))


class CutoffSettings(Settings):
    """When leads are observed for training: on a grid, or each once at its creation."""

    at: Literal["created_at"] | None = None
    every: Seconds | None = None
    first: Instant | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.at is None and (self.every is None or self.first is None):
            raise ValueError("give `every` and `first`, or `at: created_at`")
        if self.at is not None and (self.every is not None or self.first is not None):
            raise ValueError("`at` stands alone: remove `every` and `first`")
        return self


class SplitSettings(Settings):
    """The newest `test` share of the examples is the test period, the `calibrate` share before it
    calibrates, the rest trains. With `test_from` the test period starts at that instant, `test` is not
    read, and `calibrate` is the share of the examples before it."""

    calibrate: float = Field(default=0.2, gt=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)
    test_from: Instant | None = None

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        if self.calibrate + self.test >= 1:
            raise ValueError("calibrate and test together must leave rows to train on")
        return self


class ReadinessSettings(Settings):
    """Where `nurture` ends and `ready` begins: by sales capacity or by expected value."""

    weekly_capacity: int | None = Field(default=None, gt=0)
    share: float | None = Field(default=None, gt=0, lt=1)
    value_per_win: float | None = Field(default=None, gt=0)
    win_rate: float | None = Field(default=None, gt=0, le=1)
    cost_per_lead: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        by_value = (self.value_per_win, self.win_rate, self.cost_per_lead)
        given = (
            (self.weekly_capacity is not None)
            + (self.share is not None)
            + any(part is not None for part in by_value)
        )
        if given != 1:
            raise ValueError(
                "give one of: `weekly_capacity`; `share`; `value_per_win` with `win_rate` and `cost_per_lead`"
            )
        if any(part is not None for part in by_value) and None in by_value:
            raise ValueError("the value rule needs `value_per_win`, `win_rate` and `cost_per_lead`")
        return self


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


class RangeSettings(Settings):
    """Numbers from `min` to `max`, both inclusive."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _some_end(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a range needs `min` or `max`")
        return self


class FeatureEntry(Settings):
    """One entry of a feature view: one feature per window or half-life."""

    aggregate: str
    events: tuple[str, ...] = Field(min_length=1)
    label: str
    concept: str
    group: Group = "engagement"
    window: Seconds | None = None
    windows: tuple[Seconds, ...] = ()
    column: str | None = None
    half_life: Seconds | None = None
    half_lives: tuple[Seconds, ...] = ()
    where: dict[str, Texts | RangeSettings] = Field(default_factory=dict)
    numerator: tuple[str, ...] = ()
    prior: Annotated[float, Field(ge=0, le=1)] | Literal["overall"] = 0.0
    strength: float = Field(default=0.0, ge=0)
    alias: str | None = None
    said: str | None = None
    none: str | None = None
    direction: Direction | None = None


class FeatureViewSettings(Settings):
    """A feature view of the project's own."""

    name: Name
    features: tuple[FeatureEntry, ...] = Field(min_length=1)


class Project(Settings):
    """The whole project file."""

    name: Name
    description: str = ""
    data_root: str = "."
    sources: Sources
    attributes: dict[str, AttributeSettings] = Field(default_factory=dict)
    leaks: dict[str, str] = Field(
        default_factory=dict, description="columns that must never be read, each with the reason"
    )
    waivers: tuple[WaiverSettings, ...] = ()
    events: dict[Name, EventTypeSettings] = Field(default_factory=dict)
    event_properties: dict[str, Literal["number", "category"]] = Field(default_factory=dict)
    conversion: ConversionSettings
    observed_until: Instant | None = None
    cutoffs: CutoffSettings | None = None
    feature_views: tuple[str | FeatureViewSettings, ...] = ()
    split: SplitSettings = SplitSettings()
    readiness: ReadinessSettings
    contact: ContactSettings = ContactSettings()
    journey: dict[str, Any] = Field(default_factory=dict)
    playbook: str | None = None
    seed: int = 7

    @property
    def is_snapshot(self) -> bool:
        return self.sources.snapshot is not None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.is_snapshot:
            self._consistent_snapshot()
        else:
            self._consistent_log()
        flags = {*self.contact.consent.values(), self.contact.do_not_contact, self.contact.opted_out}
        taken = {"lead_id", "created", "row_number", self.conversion.column, self.conversion.until, *flags}
        for name in self.attributes:
            if name in taken or (self.is_snapshot and name == "outcome"):
                raise ValueError(f"{name!r} is read for something else and cannot be an attribute too")
        for name in self.event_properties:
            if name in {"lead_id", "event_id", "event_type", "occurred", "known"}:
                raise ValueError(
                    f"{name!r} is a column of every event and cannot be a property; rename it in `sql`"
                )
        leaking = sorted(set(self.leaks) & set(self.attributes))
        if leaking:
            raise ValueError(f"{leaking[0]!r} is declared a leak and an attribute; remove one")
        return self

    def _consistent_snapshot(self) -> None:
        if self.conversion.column is None:
            raise ValueError("a snapshot needs conversion.column and conversion.positive")
        if self.cutoffs or self.feature_views or self.events:
            raise ValueError("a snapshot has no history: remove `cutoffs`, `feature_views` and `events`")
        if self.observed_until is None:
            raise ValueError("a snapshot needs `observed_until`: the instant its rows were taken")
        if self.readiness.weekly_capacity is not None:
            raise ValueError("a snapshot has no inflow per week: use readiness.share or the value rule")
        if any(attribute.history for attribute in self.attributes.values()):
            raise ValueError("a snapshot has no history: remove `history` from its attributes")
        if not self.attributes:
            raise ValueError("a snapshot needs `attributes`: the columns the model may read")

    def _consistent_log(self) -> None:
        event = self.conversion.event
        if event is None:
            raise ValueError("an event log needs conversion.event")
        if self.cutoffs is None:
            raise ValueError("an event log needs `cutoffs`")
        if event not in self.events:
            raise ValueError(f"the conversion event {event!r} is not among `events`; declare it there")
        if LEAD_CREATED in self.events:
            raise ValueError(f"{LEAD_CREATED!r} is made from `created_at` and must not be declared")
        for name, attribute in self.attributes.items():
            if attribute.history and self.sources.attribute_changes is None:
                raise ValueError(
                    f"attribute {name!r} has `history`, so `sources.attribute_changes` is needed"
                )
            if not (attribute.immutable or attribute.history):
                raise ValueError(
                    f"attribute {name!r} must say `immutable: true`, or `history: true` with "
                    "`sources.attribute_changes`, or be left out: only today's value of it exists, and today's "
                    "value would leak into the past"
                )
        for name, event_type in self.events.items():
            for column in event_type.exclude:
                if column not in self.event_properties:
                    raise ValueError(
                        f"events.{name}.exclude reads the property {column!r}; declare it under `event_properties`"
                    )


def parse_project(text: str, name: str) -> Project:
    """The project in the YAML `text`. Raises InvalidDocument naming the key and its line in `name`."""
    return parse_document(text, name, Project, described_in="docs/project-file.md")
