"""Features and feature views as data: what is read, over which window, and what people call it.

A definition holds no connection and computes nothing; `batch` and `online` read it. The column name is
derived from the definition (`pricing_view_count_30d`, `days_since_email_open`), so that two different
definitions can never share a name and one name always means one thing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from predictive_scoring.errors import InvalidSetting, InvalidValue
from predictive_scoring.features.aggregates import AGGREGATES, Aggregate, Reading, Value
from predictive_scoring.features.filters import EventFilter
from predictive_scoring.features.transforms import Transform
from predictive_scoring.features.transforms import from_document as read_transform
from predictive_scoring.schema import Direction, Group
from predictive_scoring.timeline import format_duration, spoken_duration


@dataclass(frozen=True)
class EventFeature:
    """An aggregate over a lead's events of the given types before the cutoff.

    `window` and `half_life` are in seconds. `where` keeps only the events that pass every filter; for a
    `share` it says instead which events count as hits. `numerator` are the success events of a rate
    (`events` then the trials) or the event types that a share counts (`events` then all of them). `prior`
    is the rate expected before any event, None for "the overall rate, learned at training". `exclude` are
    the project's filters against events that were no act of a person.

    `concept` names what several features share ("pricing interest"): reasons are told per concept. `said`
    is a verb phrase for reasons ("Viewed the pricing page"), `none` the subject of a reason about nothing
    ("activity": "No activity"). `direction` forbids the model to learn the opposite: a value that `raises`
    never lowers a score."""

    aggregate: str
    events: tuple[str, ...]
    label: str
    concept: str
    group: Group = "engagement"
    window: int | None = None
    column: str | None = None
    half_life: int | None = None
    where: tuple[EventFilter, ...] = ()
    numerator: tuple[str, ...] = ()
    prior: float | None = 0.0
    strength: float = 0.0
    exclude: tuple[EventFilter, ...] = ()
    alias: str | None = None
    said: str | None = None
    none: str | None = None
    direction: Direction | None = None

    def __post_init__(self) -> None:
        for broken, what, remedy in self._mistakes():
            if broken:
                raise InvalidSetting(what=what, where=f"feature {self.label!r}", remedy=remedy)

    def _mistakes(self) -> Iterator[tuple[bool, str, str]]:
        """(whether it is made, what is wrong, what to do) for every mistake a definition can have."""
        known = self.aggregate in AGGREGATES
        names = ", ".join(sorted(AGGREGATES))
        yield not known, f"unknown aggregate {self.aggregate!r}", f"Choose one of {names}."
        yield not self.events, "no event types", "List at least one event type."
        needs = known and self.definition.needs_column
        yield (
            known and needs != (self.column is not None),
            f"{self.aggregate} {'needs' if needs else 'takes no'} column",
            "Correct the key `column`.",
        )
        yield (
            self.direction is not None and self.kind != "number",
            f"{self.aggregate} answers a category, which has no more and less",
            "Remove `direction`: it is for numbers.",
        )
        yield (
            self.aggregate == "trend" and self.window is None,
            "trend needs a window",
            "Add for example window: 14d.",
        )
        yield (
            (self.aggregate == "decayed") != (self.half_life is not None),
            "half_life belongs to the aggregate `decayed`, which needs it",
            "Add or remove half_life, for example half_life: 30d.",
        )
        counts_hits = self.aggregate in ("rate", "share")
        yield (
            bool(self.numerator) and not counts_hits,
            "numerator belongs to the aggregates `rate` and `share`",
            "Remove numerator, or use the aggregate `rate`.",
        )
        yield (
            self.aggregate == "rate" and not self.numerator,
            "a rate needs a numerator: the events that count as success",
            "Add for example numerator: [email_click].",
        )
        yield (
            self.aggregate == "rate" and bool(set(self.numerator) & set(self.events) or self.strength <= 0),
            "a rate counts trials and successes apart and smooths with a positive strength",
            "Name trials under `events`, successes under `numerator`, and set strength: 5.",
        )
        yield (
            self.aggregate != "rate" and (self.prior != 0.0 or self.strength != 0.0),
            "prior and strength belong to the aggregate `rate`",
            "Remove them.",
        )
        yield (
            self.aggregate == "share" and not (self.numerator or self.where),
            "a share needs to know which events it counts",
            "Add numerator: [event types] or where: {property: [values]}.",
        )
        yield (
            self.aggregate == "share" and not set(self.numerator) <= set(self.events),
            "a share counts some of its own events",
            "Name all event types under `events`, and those that count also under `numerator`.",
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
        return Reading(self.window, self.half_life, self.prior or 0.0, self.strength)

    @property
    def event_types(self) -> frozenset[str]:
        """Every event type it looks at."""
        return frozenset((*self.events, *self.numerator))

    @property
    def filters(self) -> tuple[EventFilter, ...]:
        """What every seen event passes. The `where` of a share marks hits instead."""
        return self.exclude if self.aggregate == "share" else (*self.where, *self.exclude)

    @property
    def conditions(self) -> tuple[EventFilter, ...]:
        """Every filter it has, whatever for."""
        return (*self.where, *self.exclude)

    @property
    def properties(self) -> frozenset[str]:
        """Every event property it reads."""
        filtered = {one.property_read for one in self.conditions}
        return frozenset(name for name in (self.column, *filtered) if name is not None)

    @property
    def lookback(self) -> int | None:
        """Seconds before the cutoff beyond which nothing is read (None: no limit)."""
        return None if self.window is None else self.window * self.definition.reach

    @cached_property
    def name(self) -> str:
        subject = self.alias or "_or_".join(self.events)
        filtered = "_and_".join(one.name for one in self.where)
        if self.aggregate == "share":
            parts = ["_or_".join(self.numerator), "share_of" if self.numerator else "", subject]
            parts += ["" if self.numerator else "share", filtered]
        elif self.aggregate == "rate":
            parts = ["_or_".join(self.numerator), "rate_per", subject, filtered]
        elif self.aggregate in ("days_since", "days_since_first", "ever"):
            parts = [self.aggregate, subject, filtered]
        elif self.aggregate == "decayed":
            parts = [subject, filtered, "decayed_half_life", format_duration(self.half_life or 0)]
        else:
            parts = [subject, filtered, self.column or "", self.aggregate]
        parts.append("" if self.window is None else format_duration(self.window))
        return "_".join(part for part in parts if part)


@dataclass(frozen=True)
class AttributeFeature:
    """A lead attribute: one that never changes, or (`history`) its latest value known before the cutoff.

    `of` is the raw attribute (default: its own name) that `transform` turns into a normal form."""

    attribute: str
    kind: str
    label: str
    concept: str
    group: Group = "fit"
    direction: Direction | None = None
    history: bool = False
    of: str | None = None
    transform: Transform | None = None

    @property
    def name(self) -> str:
        return self.attribute

    @property
    def raw(self) -> str:
        """The attribute that is read."""
        return self.of or self.attribute

    def read(self, value: object) -> Value:
        """The feature's value from the raw one; None, NaN and the empty text of a cleared attribute are
        missing. Raises InvalidValue for a number that is none."""
        if value is None or value != value or (self.history and value == ""):
            return None
        if self.transform is not None:
            return self.transform(value)
        if self.kind != "number":
            # Booleans are spelled as every engine spells them.
            return str(value).lower() if isinstance(value, bool) else str(value)
        try:
            number = float(value)  # type: ignore[arg-type]  # refused below
        except (TypeError, ValueError) as refused:
            raise InvalidValue(
                what=f"{value!r} is not a number",
                where=f"attribute {self.raw}",
                remedy="Correct the value, or declare the attribute as a category.",
            ) from refused
        return None if number != number else number


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
            where=tuple(_filter(column, kept) for column, kept in (entry.get("where") or {}).items()),
            numerator=tuple(entry.get("numerator") or ()),
            prior=None if entry.get("prior") == "overall" else float(entry.get("prior") or 0.0),
            strength=float(entry.get("strength") or 0.0),
            alias=entry.get("alias"),
            said=entry.get("said"),
            none=entry.get("none"),
            direction=entry.get("direction"),
        )
        for window in windows
        for half_life in half_lives
    )


def _filter(column: str, kept: Any) -> EventFilter:
    if isinstance(kept, Mapping):
        return EventFilter(column, low=kept.get("min"), high=kept.get("max"))
    return EventFilter(column, values=tuple(kept))


def to_document(views: Iterable[FeatureView]) -> list[dict[str, Any]]:
    """The views as plain data, for the bundle; `from_document` reads it back to equal views."""
    return [
        {
            "name": view.name,
            "features": [
                {
                    "type": "event" if isinstance(feature, EventFeature) else "attribute",
                    "name": feature.name,
                    **{key: _plain(value) for key, value in vars(feature).items()},
                }
                for feature in view.features
            ],
        }
        for view in views
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, EventFilter):
        return {key: _plain(one) for key, one in vars(value).items()}
    return value.to_document() if isinstance(value, Transform) else value


def from_document(document: Iterable[Mapping[str, Any]]) -> tuple[FeatureView, ...]:
    """Inverse of `to_document`."""
    return tuple(
        FeatureView(str(view["name"]), tuple(_feature(entry) for entry in view["features"]))
        for view in document
    )


def _feature(entry: Mapping[str, Any]) -> Feature:
    fields: dict[str, Any] = {
        key: _tupled(value) for key, value in entry.items() if key not in ("type", "name")
    }
    if entry["type"] == "event":
        for key in ("where", "exclude"):
            fields[key] = tuple(
                EventFilter(**{name: _tupled(value) for name, value in one.items()})
                for one in fields.get(key, ())
            )
        return EventFeature(**fields)
    if fields.get("transform") is not None:
        fields["transform"] = read_transform(fields["transform"])
    return AttributeFeature(**fields)


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def fingerprint(views: Iterable[FeatureView]) -> str:
    """SHA-256 of what the features compute (wording and direction left out): equal fingerprints mean
    equal values for equal histories."""
    stripped = [[_computed(feature) for feature in view["features"]] for view in to_document(views)]
    return hashlib.sha256(json.dumps(stripped, sort_keys=True).encode()).hexdigest()


def _computed(document: Mapping[str, Any]) -> dict[str, Any]:
    apart = {"label", "concept", "said", "none", "direction"}
    kept = {key: value for key, value in document.items() if key not in apart}
    if kept.get("transform") is not None:
        kept["transform"] = kept["transform"]["rules"]
    return kept
