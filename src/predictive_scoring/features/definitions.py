"""Features and feature views as data: what is read, over which window, and what people call it.

A definition holds no connection and computes nothing; `batch` and `online` read it. The column name is
derived from the definition (`pricing_view_count_30d`, `days_since_email_open`), so that two different
definitions can never share a name and one name always means one thing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from predictive_scoring.errors import InvalidSetting
from predictive_scoring.features.aggregates import AGGREGATES, Aggregate, Reading
from predictive_scoring.schema import Direction, Group
from predictive_scoring.timeline import format_duration, spoken_duration


@dataclass(frozen=True)
class EventFeature:
    """An aggregate over a lead's events of the given types before the cutoff.

    `window` and `half_life` are in seconds. `concept` names what several features share ("pricing
    interest"): reasons are told per concept. `said` is a verb phrase for reasons ("Viewed the pricing
    page"), `none` the subject of a reason about nothing ("activity": "No activity"). `direction` forbids
    the model to learn the opposite: a value that `raises` never lowers a score. `numerator` are the
    success events of a rate, `events` then the trials."""

    aggregate: str
    events: tuple[str, ...]
    label: str
    concept: str
    group: Group = "engagement"
    window: int | None = None
    column: str | None = None
    half_life: int | None = None
    numerator: tuple[str, ...] = ()
    prior: float = 0.0
    strength: float = 0.0
    alias: str | None = None
    said: str | None = None
    none: str | None = None
    direction: Direction | None = None

    def __post_init__(self) -> None:
        where = f"feature {self.label!r}"
        definition = AGGREGATES.get(self.aggregate)
        if definition is None:
            raise InvalidSetting(
                what=f"unknown aggregate {self.aggregate!r}",
                where=where,
                remedy=f"Choose one of {', '.join(sorted(AGGREGATES))}.",
            )
        if not self.events:
            raise InvalidSetting(what="no event types", where=where, remedy="List at least one event type.")
        if definition.needs_column != (self.column is not None):
            need = "needs" if definition.needs_column else "takes no"
            raise InvalidSetting(
                what=f"{self.aggregate} {need} column", where=where, remedy="Correct the key `column`."
            )
        if self.direction is not None and self.kind != "number":
            raise InvalidSetting(
                what=f"{self.aggregate} answers a category, which has no more and less",
                where=where,
                remedy="Remove `direction`: it is for numbers.",
            )
        if self.aggregate == "trend" and self.window is None:
            raise InvalidSetting(
                what="trend needs a window", where=where, remedy="Add for example window: 14d."
            )
        if (self.aggregate == "decayed") != (self.half_life is not None):
            raise InvalidSetting(
                what="half_life belongs to the aggregate `decayed`, which needs it",
                where=where,
                remedy="Add or remove half_life, for example half_life: 30d.",
            )
        if (self.aggregate == "rate") != bool(self.numerator):
            raise InvalidSetting(
                what="numerator belongs to the aggregate `rate`, which needs it",
                where=where,
                remedy="Add or remove numerator, for example numerator: [email_click].",
            )
        if self.aggregate == "rate" and (set(self.numerator) & set(self.events) or self.strength <= 0):
            raise InvalidSetting(
                what="a rate counts trials and successes apart and smooths with a positive strength",
                where=where,
                remedy="Name trials under `events`, successes under `numerator`, and set strength: 5.",
            )

    @property
    def definition(self) -> Aggregate:
        return AGGREGATES[self.aggregate]

    @property
    def kind(self) -> str:
        """`number` or `category`."""
        return self.definition.kind

    @property
    def reading(self) -> Reading:
        return Reading(self.window, self.half_life, self.numerator, self.prior, self.strength)

    @property
    def event_types(self) -> frozenset[str]:
        """Every event type it looks at."""
        return frozenset((*self.events, *self.numerator))

    @property
    def lookback(self) -> int | None:
        """Seconds before the cutoff beyond which nothing is read (None: no limit)."""
        return None if self.window is None else self.window * self.definition.reach

    @property
    def name(self) -> str:
        subject = self.alias or "_or_".join(self.events)
        if self.aggregate == "days_since":
            stem = f"days_since_{subject}"
        elif self.aggregate == "ever":
            stem = f"ever_{subject}"
        elif self.aggregate == "rate":
            stem = f"{'_or_'.join(self.numerator)}_rate_per_{subject}"
        elif self.aggregate == "decayed":
            stem = f"{subject}_decayed_half_life_{format_duration(self.half_life or 0)}"
        elif self.aggregate in ("sum", "mean", "max", "latest", "distinct"):
            stem = f"{subject}_{self.column}_{self.aggregate}"
        else:
            stem = f"{subject}_{self.aggregate}"
        return stem if self.window is None else f"{stem}_{format_duration(self.window)}"


@dataclass(frozen=True)
class AttributeFeature:
    """A lead attribute that may be read at any cutoff, because the project declares it immutable."""

    attribute: str
    kind: str
    label: str
    concept: str
    group: Group = "fit"
    direction: Direction | None = None

    @property
    def name(self) -> str:
        return self.attribute


Feature = EventFeature | AttributeFeature


@dataclass(frozen=True)
class FeatureView:
    """A named list of features."""

    name: str
    features: tuple[Feature, ...]


def features_of(views: Iterable[FeatureView]) -> tuple[Feature, ...]:
    """All features of the views, in order. Raises InvalidSetting where two share a name."""
    seen: dict[str, Feature] = {}
    for view in views:
        for feature in view.features:
            other = seen.get(feature.name)
            if other is not None:
                raise InvalidSetting(
                    what=f"two features are called {feature.name!r}",
                    where=f"feature view {view.name!r}, {feature.label!r} and {other.label!r}",
                    remedy="Remove one, or give one an `alias` if they read different events.",
                )
            seen[feature.name] = feature
    return tuple(seen.values())


def expand(entry: Mapping[str, Any]) -> tuple[EventFeature, ...]:
    """The features of one catalogue or project entry: one per window (or half-life).

    `{window}` in the label becomes the spoken window. Durations are already seconds here."""
    windows: tuple[int | None, ...] = tuple(entry.get("windows") or ()) or (entry.get("window"),)
    half_lives: tuple[int | None, ...] = tuple(entry.get("half_lives") or ()) or (entry.get("half_life"),)
    label = str(entry["label"])
    return tuple(
        EventFeature(
            aggregate=entry["aggregate"],
            events=tuple(entry["events"]),
            # Not `format`: a label with other braces is a label, not an error.
            label=label.replace("{window}", spoken_duration(window) if window else "all time").replace(
                "{half_life}", spoken_duration(half_life) if half_life else ""
            ),
            concept=entry["concept"],
            group=entry.get("group", "engagement"),
            window=window,
            column=entry.get("column"),
            half_life=half_life,
            numerator=tuple(entry.get("numerator") or ()),
            prior=float(entry.get("prior") or 0.0),
            strength=float(entry.get("strength") or 0.0),
            alias=entry.get("alias"),
            said=entry.get("said"),
            none=entry.get("none"),
            direction=entry.get("direction"),
        )
        for window in windows
        for half_life in half_lives
    )


def to_document(views: Iterable[FeatureView]) -> list[dict[str, Any]]:
    """The views as plain data, for the bundle; `from_document` reads it back to equal views."""
    return [
        {
            "name": view.name,
            "features": [
                {
                    "type": "event" if isinstance(feature, EventFeature) else "attribute",
                    "name": feature.name,
                    **{
                        key: list(value) if isinstance(value, tuple) else value
                        for key, value in vars(feature).items()
                    },
                }
                for feature in view.features
            ],
        }
        for view in views
    ]


def from_document(document: Iterable[Mapping[str, Any]]) -> tuple[FeatureView, ...]:
    """Inverse of `to_document`."""
    return tuple(
        FeatureView(str(view["name"]), tuple(_feature(entry) for entry in view["features"]))
        for view in document
    )


def _feature(entry: Mapping[str, Any]) -> Feature:
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in entry.items()
        if key not in ("type", "name")
    }
    return EventFeature(**fields) if entry["type"] == "event" else AttributeFeature(**fields)


def fingerprint(views: Iterable[FeatureView]) -> str:
    """SHA-256 of what the features compute (wording and direction left out): equal fingerprints mean
    equal values for equal histories."""
    apart = {"label", "concept", "said", "none", "direction"}
    stripped = [
        [{key: value for key, value in feature.items() if key not in apart} for feature in view["features"]]
        for view in to_document(views)
    ]
    return hashlib.sha256(json.dumps(stripped, sort_keys=True).encode()).hexdigest()
