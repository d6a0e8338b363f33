"""The whole project file."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from predictive_scoring.document import parse_document
from predictive_scoring.schema import LEAD_CREATED
from predictive_scoring.settings.base import Instant, Name, Settings
from predictive_scoring.settings.features import FeatureViewSettings
from predictive_scoring.settings.leads import AttributeSettings, ContactSettings, EventTypeSettings, alike
from predictive_scoring.settings.modelling import (
    ConversionSettings,
    CutoffSettings,
    MonitoringSettings,
    PointsRule,
    ReadinessSettings,
    RetentionSettings,
    SplitSettings,
    WaiverSettings,
)
from predictive_scoring.settings.sources import Sources


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
    points: tuple[PointsRule, ...] = ()
    silence_may_raise: bool = False
    monitoring: MonitoringSettings = MonitoringSettings()
    retention: RetentionSettings = RetentionSettings()
    contact: ContactSettings = ContactSettings()
    journey: dict[str, Any] = Field(default_factory=dict)
    playbook: str | None = None
    seed: int = 7

    @property
    def segments(self) -> tuple[str, ...]:
        """Attributes whose levels are told apart: those that `monitoring` names, or every category."""
        if self.monitoring.segments is not None:
            return self.monitoring.segments
        return tuple(name for name, attribute in self.attributes.items() if attribute.type == "category")

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
        self._consistent_names()
        for name, event_type in self.events.items():
            for column in event_type.exclude:
                if column not in self.event_properties:
                    raise ValueError(
                        f"events.{name}.exclude reads the property {column!r}; declare it under `event_properties`"
                    )

    def _consistent_names(self) -> None:
        meant = {alike(name): name for name in self.events}
        for name, event_type in self.events.items():
            for other in event_type.names:
                if meant.setdefault(alike(other), name) != name:
                    raise ValueError(
                        f"events.{name}.names: {other!r} means {meant[alike(other)]!r} already; name it once"
                    )


def parse_project(text: str, name: str) -> Project:
    """The project in the YAML `text`. Raises InvalidDocument naming the key and its line in `name`."""
    return parse_document(text, name, Project, described_in="docs/project-file.md")
