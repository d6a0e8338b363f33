"""The closed set of aggregates, each in two readings side by side.

`fold` reads the seen events of one lead in plain Python (the service: a fraction of a millisecond);
`expression` is the same definition as an Ibis aggregate over many leads (training and batch, on any
engine). `tests/laws/test_parity.py` holds the two equal on random histories.

An aggregate sees only events that passed the law of time (`0 < age`, known before the cutoff) and the
feature's own event filter. A missing answer is None in `fold` and NULL in `expression`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from predictive_scoring.timeline import DAY, in_feature_window

if TYPE_CHECKING:
    import ibis.expr.types as ir

    # The column a feature reads; aggregates without a column never touch it.
    Column = Any

Value = float | int | str | bool | None

# Each decayed weight is rounded to a multiple of 2^-40 and summed as an integer, so that the sum does not
# depend on the order in which an engine adds: the fold and the expression agree bit for bit.
DECAY_UNIT = 2**40


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """An event as one feature sees it: seconds before the cutoff, and the value of its column."""

    age: int
    event_type: str
    value: Value = None


@dataclass(frozen=True)
class Reading:
    """What an aggregate may look at, besides the events: the settings of one feature.

    `window` is in seconds (None: everything before the cutoff). `numerator` holds the event types that
    count as success for `rate`. `half_life` is in seconds."""

    window: int | None = None
    half_life: int | None = None
    numerator: tuple[str, ...] = ()
    prior: float = 0.0
    strength: float = 0.0


@dataclass(frozen=True)
class Aggregate:
    """One way to turn events into a value.

    `reach` gives how many windows back it reads (trend reads two). `needs_column` says whether it reads
    a column; `kind` is the kind of its answer; `spoken` is used in generated feature names."""

    name: str
    kind: str
    needs_column: bool
    reach: int
    fold: Callable[[Sequence[SeenEvent], Reading], Value]
    expression: Callable[[ir.Table, Column, ir.BooleanValue, Reading], ir.Value]


def _count_fold(events: Sequence[SeenEvent], _: Reading) -> Value:
    return len(events)


def _count_expression(table: ir.Table, value: Column, keep: ir.BooleanValue, _: Reading) -> ir.Value:
    return table.count(where=keep)


def _ever_fold(events: Sequence[SeenEvent], _: Reading) -> Value:
    return 1 if events else 0


def _ever_expression(table: ir.Table, value: Column, keep: ir.BooleanValue, _: Reading) -> ir.Value:
    return (table.count(where=keep) > 0).cast("int64")


def _days_since_fold(events: Sequence[SeenEvent], _: Reading) -> Value:
    return min(event.age for event in events) / DAY if events else None


def _days_since_expression(table: ir.Table, value: Column, keep: ir.BooleanValue, _: Reading) -> ir.Value:
    return table["age"].min(where=keep).cast("float64") / float(DAY)


def _distinct_fold(events: Sequence[SeenEvent], _: Reading) -> Value:
    return len({event.value for event in events if event.value is not None})


def _distinct_expression(table: ir.Table, value: Column, keep: ir.BooleanValue, _: Reading) -> ir.Value:
    # Engines differ in whether NULL counts as a value, so it is excluded by name.
    return value.nunique(where=keep & value.notnull())


def _numbers(events: Sequence[SeenEvent]) -> list[float]:
    return [float(event.value) for event in events if event.value is not None]


def _sum_fold(events: Sequence[SeenEvent], _: Reading) -> Value:
    return math.fsum(_numbers(events))


def _sum_expression(table: ir.Table, value: Column, keep: ir.BooleanValue, _: Reading) -> ir.Value:
    return value.cast("float64").sum(where=keep)


def _mean_fold(events: Sequence[SeenEvent], _: Reading) -> Value:
    numbers = _numbers(events)
    return math.fsum(numbers) / len(numbers) if numbers else None


def _mean_expression(table: ir.Table, value: Column, keep: ir.BooleanValue, _: Reading) -> ir.Value:
    present = keep & value.notnull()
    total = value.cast("float64").sum(where=present)
    return total / table.count(where=present).nullif(0).cast("float64")


def _max_fold(events: Sequence[SeenEvent], _: Reading) -> Value:
    return max(_numbers(events), default=None)


def _max_expression(table: ir.Table, value: Column, keep: ir.BooleanValue, _: Reading) -> ir.Value:
    return value.cast("float64").max(where=keep)


def _latest_fold(events: Sequence[SeenEvent], _: Reading) -> Value:
    # Events arrive in (occurred, event_id) order, so the last one present is the newest; ties go to
    # the greatest event id, as `sequence` has it in the expression.
    for event in reversed(events):
        if event.value is not None:
            return event.value
    return None


def _latest_expression(table: ir.Table, value: Column, keep: ir.BooleanValue, _: Reading) -> ir.Value:
    return value.argmax(table["sequence"], where=keep & value.notnull())


def _rate_fold(events: Sequence[SeenEvent], reading: Reading) -> Value:
    successes = sum(1 for event in events if event.event_type in reading.numerator)
    trials = len(events) - successes
    return float(_smoothed(successes, trials, reading))


def _rate_expression(table: ir.Table, value: Column, keep: ir.BooleanValue, reading: Reading) -> ir.Value:
    success = table["event_type"].isin(reading.numerator)
    successes = table.count(where=keep & success)
    trials = table.count(where=keep & ~success)
    return _smoothed(successes.cast("float64"), trials.cast("float64"), reading)


def _smoothed(successes: Any, trials: Any, reading: Reading) -> Any:
    """`(successes + strength * prior) / (trials + strength)`: the posterior mean of a Beta prior with
    mean `prior` worth `strength` trials, so that one lucky click is not a rate of 100 %."""
    return (successes + reading.strength * reading.prior) / (trials + reading.strength)


def _trend_fold(events: Sequence[SeenEvent], reading: Reading) -> Value:
    recent = sum(1 for event in events if in_feature_window(event.age, reading.window))
    earlier = len(events) - recent
    return float(recent - earlier) / float(recent + earlier + 1)


def _trend_expression(table: ir.Table, value: Column, keep: ir.BooleanValue, reading: Reading) -> ir.Value:
    newer = in_feature_window(table["age"], reading.window)
    recent = table.count(where=keep & newer)
    both = table.count(where=keep)
    return (2 * recent - both).cast("float64") / (both + 1).cast("float64")


def _decayed_fold(events: Sequence[SeenEvent], reading: Reading) -> Value:
    life = float(reading.half_life or DAY)
    units = sum(math.floor(math.pow(2.0, -event.age / life) * DECAY_UNIT) for event in events)
    return units / DECAY_UNIT


def _decayed_expression(table: ir.Table, value: Column, keep: ir.BooleanValue, reading: Reading) -> ir.Value:
    import ibis

    life = float(reading.half_life or DAY)
    weight = ibis.literal(2.0) ** (-table["age"].cast("float64") / life)
    units = (weight * float(DECAY_UNIT)).floor().cast("int64")
    return units.sum(where=keep).cast("float64") / float(DECAY_UNIT)


AGGREGATES: Mapping[str, Aggregate] = {
    aggregate.name: aggregate
    for aggregate in (
        Aggregate("count", "number", False, 1, _count_fold, _count_expression),
        Aggregate("ever", "number", False, 1, _ever_fold, _ever_expression),
        Aggregate("days_since", "number", False, 1, _days_since_fold, _days_since_expression),
        Aggregate("distinct", "number", True, 1, _distinct_fold, _distinct_expression),
        Aggregate("sum", "number", True, 1, _sum_fold, _sum_expression),
        Aggregate("mean", "number", True, 1, _mean_fold, _mean_expression),
        Aggregate("max", "number", True, 1, _max_fold, _max_expression),
        Aggregate("latest", "category", True, 1, _latest_fold, _latest_expression),
        Aggregate("rate", "number", False, 1, _rate_fold, _rate_expression),
        Aggregate("trend", "number", False, 2, _trend_fold, _trend_expression),
        Aggregate("decayed", "number", False, 1, _decayed_fold, _decayed_expression),
    )
}
