"""Features that need nothing of an event but its type and age, of one lead, all read together.

The `parts` of their aggregates are worked out as arrays over (cutoffs, features, events), and the aggregate's own
`finish` makes values of them, as it does in batch. For a lead with a hundred events and two cutoffs this takes a
third of the time of folding feature by feature, and a tenth for a thousand events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from predictive_scoring.features.aggregates import (
    COUNT,
    DECAY_UNIT,
    HITS,
    NEWEST,
    OLDEST,
    UNITS,
    Aggregate,
    Part,
    Reading,
    Value,
    weight_units,
)
from predictive_scoring.features.definitions import EventFeature
from predictive_scoring.schema import Event
from predictive_scoring.timeline import DAY, ages, in_feature_window

Floats = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Seen:
    """What the features of one aggregate see: `keep` (cutoffs, features, events), the events' `ages` in seconds
    (cutoffs, 1, events), which are successes (`hit`, features x events), and half-lives in seconds (features, 1)."""

    keep: Truths
    ages: Floats
    hit: Truths
    lives: Floats

    def kept_ages(self, otherwise: float) -> Floats:
        return np.where(self.keep, self.ages, otherwise)


def _known(ages: Floats) -> Floats:
    return np.where(np.isinf(ages), np.nan, ages)


def _units(seen: _Seen) -> npt.NDArray[np.int64]:
    ages = seen.kept_ages(np.inf)
    units = np.exp2(ages / -seen.lives) * DECAY_UNIT
    whole = np.floor(units)
    # An array's power may differ in its last bits from the one that engines and `weight_units` take. It decides only
    # where it could carry the units over a whole number.
    for at in zip(*np.nonzero(np.abs(units - np.rint(units)) < units * 1e-14), strict=True):
        whole[at] = weight_units(int(ages[at]), float(seen.lives[at[1], 0]))
    return whole.astype(np.int64).sum(axis=-1)


_ARRAYS: Mapping[Part, Callable[[_Seen], Any]] = {
    COUNT: lambda seen: seen.keep.sum(axis=-1),
    HITS: lambda seen: (seen.keep & seen.hit).sum(axis=-1),
    NEWEST: lambda seen: _known(seen.kept_ages(np.inf).min(axis=-1, initial=np.inf)),
    OLDEST: lambda seen: _known(seen.kept_ages(-np.inf).max(axis=-1, initial=-np.inf)),
    UNITS: _units,
}


def is_counted(feature: EventFeature) -> bool:
    """Whether the feature can be read here."""
    parts = feature.definition.parts.values()
    plain = feature.column is None and not feature.conditions
    return plain and bool(parts) and all(part in _ARRAYS for part in parts)


@dataclass(frozen=True)
class _Group:
    """Features of one aggregate, neighbours in the order of a `CountReader`; `settings` are those of all of them as
    arrays, by the number of cutoffs."""

    aggregate: Aggregate
    place: slice
    settings: Mapping[int, Reading]

    @classmethod
    def of(cls, features: Sequence[EventFeature], start: int) -> _Group:
        readings = [feature.reading for feature in features]
        settings = {
            cutoffs: Reading(
                prior=np.tile([one.prior for one in readings], cutoffs),  # type: ignore[arg-type]  # `finish` is
                strength=np.tile([one.strength for one in readings], cutoffs),  # type: ignore[arg-type]  # arithmetic
            )
            for cutoffs in (1, 2)
        }
        return cls(features[0].definition, slice(start, start + len(features)), settings)


class CountReader:
    """Reads features for which `is_counted` holds; made once, used for every lead."""

    def __init__(self, features: Iterable[EventFeature]) -> None:
        by_aggregate: dict[str, list[EventFeature]] = {}
        for feature in features:
            by_aggregate.setdefault(feature.aggregate, []).append(feature)
        ordered = [feature for several in by_aggregate.values() for feature in several]
        self.names = tuple(feature.name for feature in ordered)
        self._groups: list[_Group] = []
        for several in by_aggregate.values():
            self._groups.append(_Group.of(several, self._groups[-1].place.stop if self._groups else 0))
        types = sorted({event_type for feature in ordered for event_type in feature.event_types})
        self._codes = {event_type: code for code, event_type in enumerate(types)}
        # The last column is every type that no feature reads.
        self._member, self._hit = (
            np.array(
                [[kind in of(feature) for kind in types] + [False] for feature in ordered], dtype=np.bool_
            )
            for of in (_types, _successes)
        )
        self._lookback = np.array([feature.lookback or np.inf for feature in ordered])[:, None]
        self._lives = np.array([float(feature.half_life or DAY) for feature in ordered])[:, None]

    def read(self, events: Sequence[Event], cutoffs: Sequence[int]) -> list[list[Value]]:
        """For each cutoff (one or two, epoch seconds) the values in order of `names`, of the events before it."""
        if not self.names:
            return [[] for _ in cutoffs]
        newest, unread = cutoffs[0], len(self._codes)
        codes = np.array([self._codes.get(event.event_type, unread) for event in events], dtype=np.intp)
        past = np.array(ages(events, newest), dtype=np.float64)
        then = past - np.array([newest - cutoff for cutoff in cutoffs], dtype=np.float64)[:, None, None]
        keep = self._member.take(codes, axis=1) & in_feature_window(then, self._lookback)
        hit = self._hit.take(codes, axis=1)
        answers = []
        for group in self._groups:
            here = group.place
            seen = _Seen(keep[:, here], then, hit[here], self._lives[here])
            parts = {name: _ARRAYS[part](seen).ravel() for name, part in group.aggregate.parts.items()}
            finished = group.aggregate.finish(parts, group.settings[len(cutoffs)])
            answers.append(np.asarray(finished, dtype=np.float64).reshape(len(cutoffs), -1))
        rows = np.concatenate(answers, axis=1).tolist()
        return [[None if value != value else value for value in row] for row in rows]


def _types(feature: EventFeature) -> frozenset[str]:
    return feature.event_types


def _successes(feature: EventFeature) -> frozenset[str]:
    return frozenset(feature.numerator)
