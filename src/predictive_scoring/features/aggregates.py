"""The closed set of aggregates, each in two readings side by side.

`fold` reads the seen events of one lead in plain Python (the service: a fraction of a millisecond);
`expression` is the same definition as an Ibis aggregate over many leads (training and batch, on any
engine). `tests/laws/test_parity.py` and `tests/engines` hold the two equal on random histories.

Most expressions are made of parts that can be carried from one cutoff to the next (counts add up, the age
of the newest event grows by the time passed), so that a log read at many cutoffs is read once.

An aggregate sees only events that passed the law of time (`0 < age`, known before the cutoff), the
feature's own window and its filters. A missing answer is None in `fold` and NULL in `expression`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from predictive_scoring.timeline import DAY, in_feature_window

if TYPE_CHECKING:
    import ibis.expr.types as ir

Value = float | int | str | bool | None

# Each decayed weight is rounded down to a multiple of 2^-40 and summed as an integer, so that the sum does not
# depend on the order in which an engine adds: the fold and the expression agree bit for bit.
DECAY_UNIT = 2**40


class Seen(NamedTuple):
    """The events that one feature sees of one lead, newest first (ties: greatest event id first).

    `ages` are seconds before the cutoff. Alongside lie the `values` of the feature's column, and `hits`:
    which events a `rate` or `share` counts as success. Both are empty where the feature has no such thing."""

    ages: Sequence[int]
    values: Sequence[Any] = ()
    hits: Sequence[bool] = ()

    def up_to(self, lookback: int | None) -> Seen:
        """The events of the newest `lookback` seconds."""
        end = len(self.ages) if lookback is None else bisect_right(self.ages, lookback)
        return self if end == len(self.ages) else Seen(self.ages[:end], self.values[:end], self.hits[:end])

    def before(self, seconds: int) -> Seen:
        """What was seen of the same events at a cutoff so many seconds earlier, with their ages then."""
        start = bisect_right(self.ages, seconds)
        return Seen([age - seconds for age in self.ages[start:]], self.values[start:], self.hits[start:])


@dataclass(frozen=True)
class SeenColumns:
    """The same for many observations as Ibis columns of `table`: `keep` says which rows the feature sees."""

    table: ir.Table
    keep: ir.BooleanValue
    value: Any = None
    hit: Any = None

    @property
    def age(self) -> Any:
        """Seconds before the cutoff."""
        return self.table["age"]

    def count(self, *more: Any) -> Any:
        """Number of seen rows that also satisfy `more`."""
        keep = self.keep
        for condition in more:
            keep = keep & condition
        return self.table.count(where=keep)


@dataclass(frozen=True)
class Reading:
    """What an aggregate may look at, besides the events: the settings of one feature.

    `window` and `half_life` are in seconds (window None: everything before the cutoff). `prior` and
    `strength` smooth a `rate`."""

    window: int | None = None
    half_life: int | None = None
    prior: float = 0.0
    strength: float = 0.0


@dataclass(frozen=True)
class Part:
    """A number from which an aggregate is worked out, and which can be carried to a later cutoff.

    `expression` reads it from seen rows. `merge` joins the parts of two sets of events. `carry(value,
    seconds, reading)` is the same part of the same events, that many seconds later."""

    merge: Literal["sum", "min", "max"]
    expression: Callable[[SeenColumns, Reading], Any]
    carry: Callable[[Any, int, Reading], Any] = lambda value, _, __: value


@dataclass(frozen=True)
class Aggregate:
    """One way to turn events into a value.

    It is read either from `parts`, of which `finish` makes the value (from Ibis columns or arrays alike), or,
    where no parts can be merged, by `whole`. `reach` gives how many windows back it reads (trend reads two).
    `needs_column` says whether it reads a column, `needs_hits` whether it tells successes from the rest;
    `kind` is the kind of its answer. `folds` is `fold` of many at once, of lists that are not empty, where that is
    quicker."""

    name: str
    kind: str
    fold: Callable[[Seen, Reading], Value]
    parts: Mapping[str, Part] = field(default_factory=dict)
    finish: Callable[[Mapping[str, Any], Reading], Any] = lambda parts, _: next(iter(parts.values()))
    whole: Callable[[SeenColumns, Reading], Any] | None = None
    needs_column: bool = False
    needs_hits: bool = False
    reach: int = 1
    folds: Callable[[Sequence[tuple[Seen, Reading]]], Sequence[Value]] | None = None

    def expression(self, seen: SeenColumns, reading: Reading) -> Any:
        """The aggregate over the seen rows of a group, as an Ibis value."""
        if self.whole is not None:
            return self.whole(seen, reading)
        return self.finish(
            {name: part.expression(seen, reading) for name, part in self.parts.items()}, reading
        )


def _ratio(numerator: Any, denominator: Any) -> Any:
    """Numerator over denominator as a float; missing where the denominator is 0."""
    if hasattr(denominator, "nullif"):
        return numerator.cast("float64") / denominator.nullif(0).cast("float64")
    return np.divide(
        numerator, denominator, out=np.full(len(denominator), np.nan), where=np.asarray(denominator) != 0
    )


def _positive(count: Any) -> Any:
    """1 or 0; by cases, because PostgreSQL does not cast truth values to numbers."""
    return (count > 0).ifelse(1, 0) if hasattr(count, "cast") else np.asarray(count) > 0


def _floats(value: Any) -> Any:
    return value.cast("float64") if hasattr(value, "cast") else np.asarray(value, dtype=np.float64)


COUNT = Part("sum", lambda seen, _: seen.count())
HITS = Part("sum", lambda seen, _: seen.count(seen.hit))
NEWEST = Part("min", lambda seen, _: seen.age.min(where=seen.keep), lambda age, later, _: age + later)
OLDEST = Part("max", lambda seen, _: seen.age.max(where=seen.keep), lambda age, later, _: age + later)
TOTAL = Part("sum", lambda seen, _: seen.value.cast("float64").sum(where=seen.keep))
FILLED = Part("sum", lambda seen, _: seen.count(seen.value.notnull()))
LARGEST = Part("max", lambda seen, _: seen.value.cast("float64").max(where=seen.keep))


def _decayed_units(seen: SeenColumns, reading: Reading) -> Any:
    import ibis

    # Beyond 64 half-lives nothing is left in these units, and PostgreSQL refuses powers too small for a double.
    exponent = ibis.greatest(seen.age.cast("float64") / -float(reading.half_life or DAY), -64.0)
    weight = ibis.literal(2.0) ** exponent
    return (weight * float(DECAY_UNIT)).floor().cast("int64").sum(where=seen.keep)


def _decayed_later(units: Any, later: int, reading: Reading) -> Any:
    # A unit at most is lost at each step, so that carrying costs less than 1e-12 a cutoff.
    return np.floor(units * 2.0 ** (later / -float(reading.half_life or DAY)))


UNITS = Part("sum", _decayed_units, _decayed_later)


def _days_since_fold(seen: Seen, _: Reading) -> Value:
    return seen.ages[0] / DAY if seen.ages else None


def _days_since_first_fold(seen: Seen, _: Reading) -> Value:
    return seen.ages[-1] / DAY if seen.ages else None


def _gap_fold(seen: Seen, _: Reading) -> Value:
    steps = len(seen.ages) - 1
    return (seen.ages[-1] - seen.ages[0]) / (steps * DAY) if steps > 0 else None


def _gap(parts: Mapping[str, Any], _: Reading) -> Any:
    """Mean days from one event to the next: the span over the number of steps."""
    return _ratio(parts["oldest"] - parts["newest"], (parts["count"] - 1) * DAY)


def _present(seen: Seen) -> list[Any]:
    return [value for value in seen.values if value is not None]


def _distinct_fold(seen: Seen, _: Reading) -> Value:
    return len(set(_present(seen)))


def _distinct(seen: SeenColumns, _: Reading) -> Any:
    # Engines differ in whether NULL counts as a value, so it is excluded by name.
    return seen.value.nunique(where=seen.keep & seen.value.notnull())


def _repeat_fold(seen: Seen, _: Reading) -> Value:
    values = _present(seen)
    return 1.0 - len(set(values)) / len(values) if values else None


def _repeat(seen: SeenColumns, reading: Reading) -> Any:
    """Share of the events whose value had been there before: 0 when all differ, near 1 for one favourite."""
    return 1.0 - _ratio(_distinct(seen, reading), seen.count(seen.value.notnull()))


def _numbers(seen: Seen) -> list[float]:
    return [float(value) for value in seen.values if value is not None]


def _mean_fold(seen: Seen, _: Reading) -> Value:
    numbers = _numbers(seen)
    return math.fsum(numbers) / len(numbers) if numbers else None


def _latest_fold(seen: Seen, _: Reading) -> Value:
    return next((value for value in seen.values if value is not None), None)


def _latest(seen: SeenColumns, _: Reading) -> Any:
    return seen.value.argmax(seen.table["sequence"], where=seen.keep & seen.value.notnull())


def _share_fold(seen: Seen, _: Reading) -> Value:
    return sum(seen.hits) / len(seen.hits) if seen.hits else None


def _smoothed(parts: Mapping[str, Any], reading: Reading) -> Any:
    """`(successes + strength * prior) / (trials + strength)`: the posterior mean of a Beta prior with
    mean `prior` worth `strength` trials, so that one lucky click is not a rate of 100 %."""
    successes, trials = _floats(parts["hits"]), _floats(parts["count"] - parts["hits"])
    return (successes + reading.strength * reading.prior) / (trials + reading.strength)


def _rate_fold(seen: Seen, reading: Reading) -> Value:
    successes = sum(seen.hits)
    trials = len(seen.hits) - successes
    return float((successes + reading.strength * reading.prior) / (trials + reading.strength))


def _trend_fold(seen: Seen, reading: Reading) -> Value:
    recent = len(seen.up_to(reading.window).ages)
    both = len(seen.ages)
    return float(2 * recent - both) / float(both + 1)


def _trend(seen: SeenColumns, reading: Reading) -> Any:
    recent, both = seen.count(in_feature_window(seen.age, reading.window)), seen.count()
    return _floats(2 * recent - both) / _floats(both + 1)


def weight_units(age: int, half_life: float) -> int:
    """The weight of an event in units of 1 / DECAY_UNIT, rounded down; both arguments in seconds."""
    return int(2.0 ** (age / -half_life) * DECAY_UNIT)


def _decayed_fold(seen: Seen, reading: Reading) -> Value:
    life = float(reading.half_life or DAY)
    return sum([weight_units(age, life) for age in seen.ages]) / DECAY_UNIT


def _decayed_folds(several: Sequence[tuple[Seen, Reading]]) -> list[Value]:
    """`_decayed_fold` of each, none of them empty. The powers of all events together are one array, which for a lead
    with a hundred events and ten half-lives is a third of the time."""
    spans: dict[int, slice] = {}
    ages: list[int] = []
    for seen, _ in several:
        # Features of one stream and several half-lives share a list.
        if id(seen.ages) not in spans:
            spans[id(seen.ages)] = slice(len(ages), len(ages) + len(seen.ages))
            ages += seen.ages
    every = np.array(ages, dtype=np.float64)
    lives = [float(reading.half_life or DAY) for _, reading in several]
    parts = [every[spans[id(seen.ages)]] / -life for (seen, _), life in zip(several, lives, strict=True)]
    ends = list(accumulate(map(len, parts)))
    units = np.exp2(np.concatenate(parts)) * DECAY_UNIT
    whole = np.floor(units).astype(np.int64)
    # An array's power may differ in its last bits from the one that engines and `weight_units` take. It decides only
    # where it could carry the units over a whole number.
    for at in np.flatnonzero(np.abs(units - np.rint(units)) < units * 1e-14).tolist():
        number = bisect_right(ends, at)
        whole[at] = weight_units(several[number][0].ages[at - ends[number]], lives[number])
    answer: list[Value] = (np.add.reduceat(whole, [0, *ends[:-1]]) / DECAY_UNIT).tolist()
    return answer


AGGREGATES: Mapping[str, Aggregate] = {
    aggregate.name: aggregate
    for aggregate in (
        Aggregate("count", "number", lambda seen, _: len(seen.ages), {"count": COUNT}),
        Aggregate(
            "ever",
            "number",
            lambda seen, _: 1 if seen.ages else 0,
            {"count": COUNT},
            lambda parts, _: _floats(_positive(parts["count"])),
        ),
        Aggregate(
            "days_since",
            "number",
            _days_since_fold,
            {"newest": NEWEST},
            lambda parts, _: _floats(parts["newest"]) / float(DAY),
        ),
        Aggregate(
            "days_since_first",
            "number",
            _days_since_first_fold,
            {"oldest": OLDEST},
            lambda parts, _: _floats(parts["oldest"]) / float(DAY),
        ),
        Aggregate("gap", "number", _gap_fold, {"newest": NEWEST, "oldest": OLDEST, "count": COUNT}, _gap),
        Aggregate("distinct", "number", _distinct_fold, whole=_distinct, needs_column=True),
        Aggregate("repeat", "number", _repeat_fold, whole=_repeat, needs_column=True),
        Aggregate(
            "sum", "number", lambda seen, _: math.fsum(_numbers(seen)), {"total": TOTAL}, needs_column=True
        ),
        Aggregate(
            "mean",
            "number",
            _mean_fold,
            {"total": TOTAL, "filled": FILLED},
            lambda parts, _: _ratio(parts["total"], parts["filled"]),
            needs_column=True,
        ),
        Aggregate(
            "max",
            "number",
            lambda seen, _: max(_numbers(seen), default=None),
            {"largest": LARGEST},
            needs_column=True,
        ),
        Aggregate("latest", "category", _latest_fold, whole=_latest, needs_column=True),
        Aggregate(
            "share",
            "number",
            _share_fold,
            {"hits": HITS, "count": COUNT},
            lambda parts, _: _ratio(parts["hits"], parts["count"]),
            needs_hits=True,
        ),
        Aggregate("rate", "number", _rate_fold, {"hits": HITS, "count": COUNT}, _smoothed, needs_hits=True),
        Aggregate("trend", "number", _trend_fold, whole=_trend, reach=2),
        Aggregate(
            "decayed",
            "number",
            _decayed_fold,
            {"units": UNITS},
            lambda parts, _: _floats(parts["units"]) / float(DECAY_UNIT),
            folds=_decayed_folds,
        ),
    )
}
