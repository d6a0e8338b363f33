"""Many leads at many cutoffs: the `expression` reading of the feature definitions, on any Ibis engine.

One equality join of observations to events on the lead, the integer `age`, and `where=` predicates inside
the aggregates: nothing an engine could refuse, and nothing it could read differently from `online`.

Canonical tables (built by `data.sources`):
    observations(observation_id int64, lead_id string, cutoff int64)
    events(lead_id string, event_id string, event_type string, occurred int64, known int64, …properties)
with `occurred`, `known` and `cutoff` in epoch seconds; `events` includes each lead's `lead_created`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from predictive_scoring.features.definitions import EventFeature
from predictive_scoring.timeline import WEEK, age, in_feature_window, is_known

if TYPE_CHECKING:
    import ibis.expr.types as ir


def seen_events(observations: ir.Table, events: ir.Table) -> ir.Table:
    """Each observation with each of its lead's events that the law of time lets it see."""
    joined = observations.join(events, "lead_id")
    dated = joined.mutate(age=age(joined["occurred"], joined["cutoff"]))
    return dated.filter(in_feature_window(dated["age"], None), is_known(dated["known"], dated["cutoff"]))


def feature_table(observations: ir.Table, events: ir.Table, features: Sequence[EventFeature]) -> ir.Table:
    """One row per observation: `observation_id` and one column per event feature.

    An observation without any seen event gets what `fold` answers for no events."""
    import ibis

    if not features:
        return observations.select("observation_id")
    wanted = sorted({event_type for feature in features for event_type in feature.event_types})
    chosen = events.filter(events["event_type"].isin(wanted))
    # Properties get names of their own: one called `age` or `cutoff` must not meet the columns made here.
    columns = sorted({feature.column for feature in features if feature.column is not None})
    relevant = chosen.select(
        "lead_id",
        "event_id",
        "event_type",
        "occurred",
        "known",
        **{_value(name): chosen[name] for name in columns},
    )
    if any(feature.aggregate == "latest" for feature in features):
        order = ibis.window(
            group_by=relevant["lead_id"], order_by=[relevant["occurred"], relevant["event_id"]]
        )
        relevant = relevant.mutate(sequence=ibis.row_number().over(order))
    seen = seen_events(observations, relevant)
    lookbacks = [feature.lookback for feature in features]
    if None not in lookbacks:
        seen = seen.filter(
            in_feature_window(seen["age"], max(reach for reach in lookbacks if reach is not None))
        )
    answers = seen.group_by("observation_id").aggregate(
        **{feature.name: _expression(seen, feature) for feature in features}
    )
    joined = observations.select("observation_id").left_join(answers, "observation_id")
    empty = {feature.name: feature.definition.fold((), feature.reading) for feature in features}
    return joined.select(
        "observation_id",
        **{
            name: joined[name] if value is None else joined[name].coalesce(value)
            for name, value in empty.items()
        },
    )


def _expression(seen: ir.Table, feature: EventFeature) -> ir.Value:
    keep = seen["event_type"].isin(sorted(feature.event_types)) & in_feature_window(
        seen["age"], feature.lookback
    )
    value = seen[_value(feature.column)] if feature.column else None
    return feature.definition.expression(seen, value, keep, feature.reading)


def _value(column: str) -> str:
    return f"value_{column}"


def weekly_count_table(
    observations: ir.Table, events: ir.Table, families: Sequence[frozenset[str]], weeks: int
) -> ir.Table:
    """Rows (observation_id, week, family, events) of non-zero weekly counts; week 0 is the oldest of
    `weeks`. The same counts as `online.weekly_counts`."""
    parts = []
    seen = seen_events(observations, events)
    recent = seen.filter(in_feature_window(seen["age"], weeks * WEEK))
    dated = recent.mutate(week=(weeks - 1 - ((recent["age"] - 1) // WEEK)).cast("int64"))
    for number, family in enumerate(families):
        chosen = dated.filter(dated["event_type"].isin(sorted(family)))
        counted = chosen.group_by("observation_id", "week").aggregate(events=chosen.count())
        parts.append(counted.mutate(family=number))
    table = parts[0]
    for part in parts[1:]:
        table = table.union(part)
    return table
