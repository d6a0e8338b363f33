"""One lead, in plain Python: the `fold` reading of the feature definitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from predictive_scoring.features.aggregates import AGGREGATES, Aggregate, Reading, Seen, Value
from predictive_scoring.features.definitions import AttributeFeature, EventFeature, Feature
from predictive_scoring.features.filters import EventFilter
from predictive_scoring.schema import LEAD_CREATED, Event, Lead
from predictive_scoring.timeline import WEEK, age, ages, learned_late, seen_at

Aged = tuple[int, Event]
"""An event with its age, seconds before the cutoff."""

_IN_TIME = attrgetter("occurred", "event_id")
_IN_ORDER = attrgetter("occurred", "value")


def history(lead: Lead, cutoff: int) -> list[Aged]:
    """The lead's events that may be seen at the cutoff, newest first (ties: greatest event id first), with
    the synthetic `lead_created` event among them."""
    events = seen_events(lead, cutoff)
    return list(zip(ages(events, cutoff), events, strict=True))


def seen_events(lead: Lead, cutoff: int) -> list[Event]:
    """The events of `history`."""
    created = Event(f"{LEAD_CREATED}:{lead.lead_id}", LEAD_CREATED, lead.created, lead.created)
    return sorted(seen_at((created, *lead.events), cutoff), key=_IN_TIME, reverse=True)


@dataclass(frozen=True)
class _Stream:
    """Features that see the same events through the same filters; each cuts its own window out of them."""

    types: frozenset[str]
    filters: tuple[EventFilter, ...]
    column: str | None
    numerator: frozenset[str]
    marks: tuple[EventFilter, ...]
    counts_hits: bool

    @classmethod
    def of(cls, feature: EventFeature) -> _Stream:
        return cls(
            feature.event_types,
            feature.filters,
            feature.column,
            frozenset(feature.numerator),
            feature.where if feature.aggregate == "share" else (),
            feature.definition.needs_hits,
        )

    def seen(self, chosen: list[Event], cutoff: int) -> Seen:
        """What the stream sees of the events of its types."""
        for one in self.filters:
            chosen = [event for event in chosen if one.admits(event)]
        column = self.column
        return Seen(
            ages(chosen, cutoff),
            [event.properties.get(column) for event in chosen] if column is not None else (),
            [self._hits(event) for event in chosen] if self.counts_hits else (),
        )

    def _hits(self, event: Event) -> bool:
        counted = not self.numerator or event.event_type in self.numerator
        return counted and all(mark.admits(event) for mark in self.marks)


_Window = tuple[int | None, list[tuple[str, Aggregate, Reading]]]
"""Seconds looked back, and name, aggregate and settings of each feature that looks back so far."""


class FeatureReader:
    """Reads the values of `features` from a lead in hand; made once, used for every lead.

    The features are sorted into streams when it is made, so that reading a lead with 200 events takes a
    fraction of a millisecond."""

    def __init__(self, features: Iterable[Feature]) -> None:
        self.features = tuple(features)
        self._attributes = [one for one in self.features if isinstance(one, AttributeFeature)]
        streams: dict[_Stream, list[EventFeature]] = {}
        for feature in self.features:
            if isinstance(feature, EventFeature):
                streams.setdefault(_Stream.of(feature), []).append(feature)
        by_types: dict[frozenset[str], list[tuple[_Stream, list[_Window]]]] = {}
        for stream, several in streams.items():
            windows: dict[int | None, list[tuple[str, Aggregate, Reading]]] = {}
            for one in several:
                windows.setdefault(one.lookback, []).append((one.name, one.definition, one.reading))
            by_types.setdefault(stream.types, []).append((stream, list(windows.items())))
        self._by_types = list(by_types.items())
        self._empty = {
            one.name: one.definition.fold(Seen(()), one.reading) if isinstance(one, EventFeature) else None
            for one in self.features
        }

    def __call__(self, lead: Lead, cutoff: int) -> dict[str, Value]:
        """Value of every feature by name at the cutoff (epoch seconds); None is missing."""
        return self._read(lead, seen_events(lead, cutoff), (cutoff,))[0]

    def twice(
        self, lead: Lead, events: list[Event], cutoff: int, earlier: int
    ) -> tuple[dict[str, Value], dict[str, Value]]:
        """The values at the cutoff, and those at an earlier one. `events` are the lead's `seen_events` at the cutoff:
        both are read from them, unless one lay before the earlier cutoff already and became known after it."""
        if learned_late(events, earlier):
            return self._read(lead, events, (cutoff,))[0], self(lead, earlier)
        now, before = self._read(lead, events, (cutoff, earlier))
        return now, before

    def _read(self, lead: Lead, events: list[Event], cutoffs: Sequence[int]) -> list[dict[str, Value]]:
        """The values at each cutoff, newest first, of which each sees the `events` that lie before it."""
        newest = cutoffs[0]
        values = [dict(self._empty) for _ in cutoffs]
        together: dict[str, list[tuple[dict[str, Value], str, Seen, Reading]]] = {}
        by_type: dict[str, list[Event]] = {}
        for event in events:
            by_type.setdefault(event.event_type, []).append(event)
        for types, streams in self._by_types:
            if types.isdisjoint(by_type):
                continue
            if len(types) == 1:
                (only,) = types
                chosen = by_type[only]
            else:
                chosen = [event for event in events if event.event_type in types]
            for stream, windows in streams:
                seen = stream.seen(chosen, newest)
                for cutoff, read in zip(cutoffs, values, strict=True):
                    there = seen if cutoff == newest else seen.before(age(cutoff, newest))
                    for lookback, readers in windows:
                        within = there.up_to(lookback)
                        if not within.ages:
                            continue
                        for name, aggregate, reading in readers:
                            if aggregate.folds is None:
                                read[name] = aggregate.fold(within, reading)
                            else:
                                together.setdefault(aggregate.name, []).append((read, name, within, reading))
        for aggregate_name, several in together.items():
            folds = AGGREGATES[aggregate_name].folds
            if folds is not None:
                answers = folds([(within, reading) for _, _, within, reading in several])
                for (read, name, _, _), value in zip(several, answers, strict=True):
                    read[name] = value
        if self._attributes:
            known: dict[str, str] | None = None
            for cutoff, read in zip(cutoffs, values, strict=True):
                changed = _latest_changes(lead, cutoff)
                if changed == known:
                    read.update((one.name, values[0][one.name]) for one in self._attributes)
                else:
                    self._read_attributes(lead, changed, read)
                known = changed if known is None else known
        return values

    def _read_attributes(self, lead: Lead, changed: Mapping[str, str], values: dict[str, Value]) -> None:
        for one in self._attributes:
            today = lead.attributes.get(one.raw)
            values[one.name] = one.read(changed.get(one.raw, today) if one.history else today)


def _latest_changes(lead: Lead, cutoff: int) -> dict[str, str]:
    """Each attribute's newest value that was known before the cutoff (ties: the greatest text)."""
    seen = sorted(seen_at(lead.changes, cutoff), key=_IN_ORDER)
    return {change.attribute: change.value for change in seen}


def feature_values(lead: Lead, cutoff: int, features: Sequence[Feature]) -> dict[str, Value]:
    """Value of every feature by name for one lead at one cutoff; for many leads make a `FeatureReader`."""
    return FeatureReader(features)(lead, cutoff)


class WeekCounter:
    """Counts events per week (oldest first, `weeks` rows) and event family, up to a cutoff; made once, used for every
    lead. Week k before the cutoff holds the ages in (k * 7 d, (k + 1) * 7 d]."""

    def __init__(self, families: Sequence[frozenset[str]], weeks: int) -> None:
        self.families, self.weeks = len(families), weeks
        self._columns: dict[str, list[int]] = {}
        for column, family in enumerate(families):
            for event_type in family:
                self._columns.setdefault(event_type, []).append(column)

    def __call__(self, events: Iterable[Event], cutoff: int) -> list[list[int]]:
        """The counts of a lead's `seen_events` at the cutoff."""
        counts = [[0] * self.families for _ in range(self.weeks)]
        for event in events:
            columns = self._columns.get(event.event_type)
            if columns:
                week = (age(event.occurred, cutoff) - 1) // WEEK
                if week < self.weeks:
                    for column in columns:
                        counts[self.weeks - 1 - week][column] += 1
        return counts
