"""One lead, in plain Python: the `fold` reading of the feature definitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from predictive_scoring.features.aggregates import SeenEvent, Value
from predictive_scoring.features.definitions import AttributeFeature, EventFeature, Feature
from predictive_scoring.schema import LEAD_CREATED, Event, Lead
from predictive_scoring.timeline import WEEK, age, in_feature_window, is_known


def history(lead: Lead, cutoff: int) -> list[Event]:
    """The lead's events that may be seen at the cutoff, oldest first (ties by event id), with the
    synthetic `lead_created` event among them."""
    created = Event(f"{LEAD_CREATED}:{lead.lead_id}", LEAD_CREATED, lead.created, lead.created)
    return sorted(
        (
            event
            for event in (created, *lead.events)
            if in_feature_window(age(event.occurred, cutoff), None) and is_known(event.known, cutoff)
        ),
        key=lambda event: (event.occurred, event.event_id),
    )


def feature_values(lead: Lead, cutoff: int, features: Sequence[Feature]) -> dict[str, Value]:
    """Value of every feature by name for one lead at one cutoff (epoch seconds); None is missing."""
    by_type: dict[str, list[Event]] = {}
    order: dict[str, int] = {}
    for position, event in enumerate(history(lead, cutoff)):
        order[event.event_id] = position
        by_type.setdefault(event.event_type, []).append(event)
    return {
        feature.name: (
            _attribute(lead.attributes, feature)
            if isinstance(feature, AttributeFeature)
            else _fold(by_type, order, cutoff, feature)
        )
        for feature in features
    }


def _attribute(attributes: Mapping[str, object], feature: AttributeFeature) -> Value:
    value = attributes.get(feature.attribute)
    if value is None:
        return None
    if feature.kind == "number":
        number = float(value)  # type: ignore[arg-type]  # checked when the lead was read
        return None if number != number else number
    return _text(value)


def _text(value: object) -> str:
    """Categories are text; booleans are spelled as every engine spells them."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _fold(
    by_type: Mapping[str, list[Event]], order: Mapping[str, int], cutoff: int, feature: EventFeature
) -> Value:
    lookback = feature.lookback
    types = feature.event_types
    if len(types) == 1:
        chosen: Sequence[Event] = by_type.get(feature.events[0], ())
    else:
        chosen = sorted(
            (event for event_type in types for event in by_type.get(event_type, ())),
            key=lambda event: order[event.event_id],
        )
    column = feature.column
    seen = [
        SeenEvent(distance, event.event_type, event.properties.get(column) if column else None)
        for event in chosen
        if in_feature_window(distance := age(event.occurred, cutoff), lookback)
    ]
    return feature.definition.fold(seen, feature.reading)


def weekly_counts(lead: Lead, cutoff: int, families: Sequence[frozenset[str]], weeks: int) -> list[list[int]]:
    """Event counts per week (oldest first, `weeks` rows) and event family, up to the cutoff.

    Week k before the cutoff holds the ages in (k * 7 d, (k + 1) * 7 d]."""
    counts = [[0] * len(families) for _ in range(weeks)]
    for event in history(lead, cutoff):
        week = (age(event.occurred, cutoff) - 1) // WEEK
        if week < weeks:
            for column, family in enumerate(families):
                if event.event_type in family:
                    counts[weeks - 1 - week][column] += 1
    return counts
