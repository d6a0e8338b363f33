"""Many leads at many cutoffs: the `expression` reading of the feature definitions, on any Ibis engine.

One equality join of observations to events on the lead, the integer `age`, and predicates on types, ages and
properties: nothing an engine could refuse, and nothing it could read differently from `online`.

`feature_table` is the whole reading as one expression. Its pieces serve `data.feature_frame`, which reads
large logs in another order to the same numbers (docs/adr/0008): features in passes by how far they look
back, so that 30-day features join the newest 30 days only; in streams that see the same events; and, over
several cutoffs, from parts of what became visible since the cutoff before.

Canonical tables (built by `data.sources`):
    observations(observation_id int64, lead_id string, cutoff int64)
    events(lead_id string, event_id string, event_type string, occurred int64, known int64, …properties)
with `occurred`, `known` and `cutoff` in epoch seconds; `events` includes each lead's `lead_created`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

from predictive_scoring.features.aggregates import Seen, SeenColumns
from predictive_scoring.features.definitions import EventFeature
from predictive_scoring.features.filters import CLOCK
from predictive_scoring.timeline import DAY, WEEK, age, in_feature_window, is_known, seen_by_some

if TYPE_CHECKING:
    import ibis.expr.types as ir

PASSES = (35 * DAY, 100 * DAY, 400 * DAY)
"""Lookbacks in seconds at which features part into passes; what looks further back is one more pass."""


def passes(features: Iterable[EventFeature]) -> list[list[EventFeature]]:
    """The features by how far they look back; those that need a sequence apart, because it costs a sort."""
    several: dict[tuple[bool, int], list[EventFeature]] = {}
    for feature in features:
        tier = sum(feature.lookback is None or feature.lookback > border for border in PASSES)
        several.setdefault((feature.aggregate == "latest", tier), []).append(feature)
    return list(several.values())


def streams(features: Iterable[EventFeature]) -> list[list[EventFeature]]:
    """The features by the events that they see, windows apart."""
    several: dict[Any, list[EventFeature]] = {}
    for feature in features:
        several.setdefault((feature.event_types, feature.filters), []).append(feature)
    return list(several.values())


def empty_values(features: Iterable[EventFeature]) -> dict[str, Any]:
    """What each feature answers where nothing was seen."""
    return {feature.name: feature.definition.fold(Seen(()), feature.reading) for feature in features}


def feature_table(
    observations: ir.Table,
    events: ir.Table,
    features: Sequence[EventFeature],
    *,
    span: tuple[int, int] | None = None,
) -> ir.Table:
    """One row per observation: `observation_id` and one column per event feature.

    An observation without any seen event gets what `fold` answers for no events. `span` gives the first and
    last cutoff of the observations, where the caller knows them: the log is then read in passes."""
    table = observations.select("observation_id")
    columns: dict[str, str] = {}
    for number, several in enumerate(passes(features) if span else [list(features)]):
        if several:
            answered = answers(seen_rows(observations, events, several, span), several)
            made = {answer_column(place): f"pass_{number}_{place}" for place in range(len(several))}
            renamed = answered.rename({new: old for old, new in made.items()})
            table = table.left_join(renamed, "observation_id").drop("observation_id_right")
            columns |= {one.name: name for one, name in zip(several, made.values(), strict=True)}
    return table.select(
        "observation_id",
        **{
            name: table[columns[name]] if value is None else table[columns[name]].coalesce(value)
            for name, value in empty_values(features).items()
        },
    )


def seen_rows(
    observations: ir.Table,
    events: ir.Table,
    features: Sequence[EventFeature],
    span: tuple[int, int] | None = None,
) -> ir.Table:
    """Each observation with each of its lead's events that some of the features sees: observation_id,
    event_type, age, the properties read, `occurred` where a clock is asked, and a `sequence` where `latest`
    needs one."""
    furthest = _furthest(features)
    chosen = _read_by(events, features)
    if span is not None:
        chosen = chosen.filter(seen_by_some(chosen["occurred"], *span, furthest))
    joined = observations.join(chosen, "lead_id")
    dated = joined.mutate(age=age(joined["occurred"], joined["cutoff"]))
    seen = dated.filter(in_feature_window(dated["age"], furthest), is_known(dated["known"], dated["cutoff"]))
    if any(feature.aggregate == "latest" for feature in features):
        import ibis

        order = ibis.window(group_by=seen["observation_id"], order_by=[seen["occurred"], seen["event_id"]])
        seen = seen.mutate(sequence=ibis.row_number().over(order))
    clocked = any(one.column in CLOCK for feature in features for one in feature.conditions)
    return seen.drop("lead_id", "cutoff", "event_id", "known", *([] if clocked else ["occurred"]))


def newly_seen(
    events: ir.Table, features: Sequence[EventFeature], cutoff: int, since: int | None
) -> ir.Table:
    """The events that `cutoff` sees and the cutoff `since` (None: none) did not: as `seen_rows`, by lead_id."""
    chosen = _read_by(events, features)
    dated = chosen.mutate(age=age(chosen["occurred"], cutoff))
    fresh = dated.filter(in_feature_window(dated["age"], None), is_known(dated["known"], cutoff))
    if since is not None:
        # Either it happened since, or it was learned of since.
        fresh = fresh.filter((fresh["occurred"] >= since) | ~is_known(fresh["known"], since))
    return fresh.drop("event_id", "known")


def answers(seen: ir.Table, features: Sequence[EventFeature]) -> ir.Table:
    """One row per observation of `seen_rows` that sees anything: observation_id, and an `answer_column` for
    each feature."""
    rows, left = _shared(seen, features)
    return rows.group_by("observation_id").aggregate(
        **{
            answer_column(number): feature.definition.expression(
                _columns(rows, feature, left), feature.reading
            )
            for number, feature in enumerate(features)
        }
    )


def answer_column(number: int) -> str:
    """Column of the answer of a feature, by its place. Not its name: PostgreSQL cuts names after 63 bytes, and
    long feature names differ at their ends (`_7d`, `_30d`)."""
    return f"feature_{number}"


def parts(fresh: ir.Table, features: Sequence[EventFeature]) -> ir.Table:
    """One row per lead of `newly_seen`: lead_id, and float64 columns `<number of the feature>.<part>`."""
    rows, left = _shared(fresh, features)
    columns = [_columns(rows, feature, left) for feature in features]
    return rows.group_by("lead_id").aggregate(
        **{
            f"{number}.{name}": part.expression(columns[number], feature.reading).cast("float64")
            for number, feature in enumerate(features)
            for name, part in feature.definition.parts.items()
        }
    )


def overall_rate(events: ir.Table, feature: EventFeature, until: int) -> ir.Table:
    """One row: the `trials` and `successes` of a rate over the whole log as it was known at `until`."""
    rows, left = _shared(newly_seen(events, [feature], until, None), [feature])
    counted = _columns(rows, feature, left)
    return rows.aggregate(trials=counted.count(~counted.hit), successes=counted.count(counted.hit))


def _furthest(features: Sequence[EventFeature]) -> int | None:
    """Seconds that the furthest of them looks back (None: no limit)."""
    lookbacks = [feature.lookback for feature in features]
    return None if None in lookbacks else max(reach for reach in lookbacks if reach is not None)


def _read_by(events: ir.Table, features: Sequence[EventFeature]) -> ir.Table:
    """Rows and columns of the log that some of the features reads."""
    wanted = sorted({event_type for feature in features for event_type in feature.event_types})
    chosen = events.filter(events["event_type"].isin(wanted))
    # Properties get names of their own: one called `age` or `cutoff` must not meet the columns made here.
    columns = sorted({name for feature in features for name in feature.properties})
    return chosen.select(
        "lead_id",
        "event_id",
        "event_type",
        "occurred",
        "known",
        **{_value(name): chosen[name] for name in columns},
    )


def _conditions(rows: ir.Table, feature: EventFeature) -> dict[Any, Any]:
    """What a row must satisfy to be seen by the feature, each by what it depends on."""
    types = rows["event_type"].isin(sorted(feature.event_types))
    return {
        feature.event_types: types,
        feature.lookback: in_feature_window(rows["age"], feature.lookback),
        **{one: one.expression(rows, _property(rows, one.property_read)) for one in feature.filters},
    }


def _shared(rows: ir.Table, features: Sequence[EventFeature]) -> tuple[ir.Table, set[Any]]:
    """The rows that satisfy what all the features ask, and the conditions that are then left to none."""
    asked = [_conditions(rows, feature) for feature in features]
    common = set.intersection(*(set(conditions) for conditions in asked))
    return rows.filter(*(asked[0][key] for key in asked[0] if key in common)) if common else rows, common


def _columns(rows: ir.Table, feature: EventFeature, settled: set[Any]) -> SeenColumns:
    """What the feature sees of `rows`, of which the `settled` conditions hold already."""
    import ibis

    keep = [condition for key, condition in _conditions(rows, feature).items() if key not in settled]
    hit = [rows["event_type"].isin(sorted(feature.numerator))] if feature.numerator else []
    if feature.aggregate == "share":
        hit += [one.expression(rows, _property(rows, one.property_read)) for one in feature.where]
    return SeenColumns(
        rows,
        reduce(and_, keep) if keep else ibis.literal(True),
        _property(rows, feature.column),
        reduce(and_, hit) if hit else None,
    )


def _property(rows: ir.Table, name: str | None) -> Any:
    return None if name is None else rows[_value(name)]


def _value(column: str) -> str:
    return f"value_{column}"


def weekly_count_table(
    observations: ir.Table, events: ir.Table, families: Sequence[frozenset[str]], weeks: int
) -> ir.Table:
    """Rows (observation_id, week, family, events) of non-zero weekly counts; week 0 is the oldest of
    `weeks`. The same counts as `online.WeekCounter`."""
    several = []
    joined = observations.join(events, "lead_id")
    dated = joined.mutate(age=age(joined["occurred"], joined["cutoff"]))
    recent = dated.filter(
        in_feature_window(dated["age"], weeks * WEEK), is_known(dated["known"], dated["cutoff"])
    )
    dated = recent.mutate(week=(weeks - 1 - ((recent["age"] - 1) // WEEK)).cast("int64"))
    for number, family in enumerate(families):
        chosen = dated.filter(dated["event_type"].isin(sorted(family)))
        counted = chosen.group_by("observation_id", "week").aggregate(events=chosen.count())
        several.append(counted.mutate(family=number))
    table = several[0]
    for part in several[1:]:
        table = table.union(part)
    return table
