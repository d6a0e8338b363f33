"""Feature values of observations as a frame: the event log read by its engine, attributes read beside it.

Every way of reading gives the same numbers (tests/laws/test_reading.py); which one is taken depends on the
number of observations alone. Few are read by one expression. Many are read in blocks, oldest cutoff first, each
from the part of the log that its features look back to. Over several cutoffs, features without a window are
carried: each cutoff reads only what became visible since the one before (docs/adr/0008).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from predictive_scoring.data.sources import Tables
from predictive_scoring.errors import MissingColumn
from predictive_scoring.features.aggregates import Part
from predictive_scoring.features.batch import (
    answer_column,
    answers,
    empty_values,
    feature_table,
    newly_seen,
    overall_rate,
    parts,
    passes,
    seen_rows,
    streams,
)
from predictive_scoring.features.definitions import AttributeFeature, EventFeature, Feature, FeatureView
from predictive_scoring.features.transforms import apply

if TYPE_CHECKING:
    import ibis.expr.types as ir

Values = Mapping[str, np.ndarray]
"""One array by feature name, row by row alongside the observations; every reading fills its own."""


@dataclass(frozen=True)
class ReadingPlan:
    """From how many observations on a log is read in pieces.

    `block`: most observations that are read at once. `in_streams`: observations of a block
    from which one query for each stream is cheaper than one query with all their conditions. `carried`:
    mean observations a cutoff from which features without a window are carried over three cutoffs or more."""

    block: int = 1_000_000
    in_streams: int = 20_000
    carried: int = 5_000


def feature_frame(
    tables: Tables,
    observations: pd.DataFrame,
    features: Sequence[Feature],
    plan: ReadingPlan = ReadingPlan(),
) -> pd.DataFrame:
    """Feature values row by row alongside `observations` (observation_id, lead_id, cutoff).

    float64 with NaN for numbers, text or None for categories."""
    numbers = [feature.name for feature in features if feature.kind == "number"]
    # One block of floats that every reading writes into: a million leads are not copied once more at the end.
    block = np.empty((len(numbers), len(observations)))
    values: dict[str, np.ndarray] = dict(zip(numbers, block, strict=True))
    values |= {
        feature.name: np.full(len(observations), None, dtype=object)
        for feature in features
        if feature.kind != "number"
    }
    _read_events(
        tables, observations, [one for one in features if isinstance(one, EventFeature)], plan, values
    )
    _read_attributes(
        tables, observations, [one for one in features if isinstance(one, AttributeFeature)], plan, values
    )
    frame = pd.DataFrame(block.T, columns=pd.Index(numbers, dtype=object), copy=False)
    for position, feature in enumerate(features):
        if feature.kind != "number":
            # Without the dtype pandas would make text of its own, with NaN for None.
            frame.insert(position, feature.name, pd.Series(values[feature.name], dtype=object))
    return frame


def _read_events(
    tables: Tables,
    observations: pd.DataFrame,
    features: Sequence[EventFeature],
    plan: ReadingPlan,
    values: Values,
) -> None:
    if not features:
        return
    cutoffs = observations["cutoff"].nunique()
    carries = cutoffs > 2 and len(observations) >= plan.carried * cutoffs
    carried = [one for one in features if carries and one.lookback is None and one.definition.parts]
    if carried:
        _carry(tables, tables.events, observations, carried, values)
    _read(tables, tables.events, observations, [one for one in features if one not in carried], plan, values)


def _read(
    tables: Tables,
    log: ir.Table,
    observations: pd.DataFrame,
    features: Sequence[EventFeature],
    plan: ReadingPlan,
    values: Values,
) -> None:
    """Read block by block, oldest cutoff first."""
    for name, empty in empty_values(features).items():
        values[name][:] = empty
    if not features or observations.empty:
        return
    order = np.argsort(observations["cutoff"].to_numpy(), kind="stable")
    for start in range(0, len(order), plan.block):
        rows = order[start : start + plan.block]
        block = observations[["lead_id", "cutoff"]].iloc[rows].assign(observation_id=rows)
        span = (int(block["cutoff"].iloc[0]), int(block["cutoff"].iloc[-1]))
        with tables.engine.temporary("observations", block) as observed:
            if len(rows) < plan.in_streams:
                read = feature_table(observed, log, features, span=span).to_pandas()
                _place(values, read, {feature.name: feature for feature in features})
                continue
            for several in passes(features):
                with tables.engine.held(seen_rows(observed, log, several, span)) as seen:
                    for stream in streams(several):
                        read = answers(seen, stream).to_pandas()
                        _place(values, read, {answer_column(n): one for n, one in enumerate(stream)})


def _place(values: Values, read: pd.DataFrame, features: Mapping[str, EventFeature]) -> None:
    """Write what was read into its rows; `features` by the column that holds them."""
    rows = read["observation_id"].to_numpy()
    for column, one in features.items():
        answered, target = read[column], values[one.name]
        if one.kind == "number":
            numbers = answered.to_numpy(dtype=np.float64, na_value=np.nan)
            target[rows] = np.where(np.isnan(numbers), target[rows], numbers)
        else:
            target[rows] = answered.astype(object).where(answered.notna(), None).to_numpy()


def _carry(
    tables: Tables,
    log: ir.Table,
    observations: pd.DataFrame,
    features: Sequence[EventFeature],
    values: Values,
) -> None:
    """Features without a window, from the parts of what each cutoff sees for the first time."""
    leads = pd.Index(observations["lead_id"].unique())
    lead = leads.get_indexer(observations["lead_id"])
    cutoffs = observations["cutoff"].to_numpy()
    groups = [(stream, _nothing(stream, len(leads))) for stream in streams(features)]
    since: int | None = None
    for cutoff in np.unique(cutoffs).tolist():
        here = np.flatnonzero(cutoffs == cutoff)
        with tables.engine.held(newly_seen(log, features, cutoff, since)) as fresh:
            for stream, states in groups:
                added = parts(fresh, stream).to_pandas()
                place = leads.get_indexer(added["lead_id"])
                known = place >= 0
                for number, (one, state) in enumerate(zip(stream, states, strict=True)):
                    for name, part in one.definition.parts.items():
                        if since is not None:
                            state[name] = part.carry(state[name], cutoff - since, one.reading)
                        new = added[f"{number}.{name}"].to_numpy(dtype=np.float64, na_value=np.nan)
                        _merge(part, state[name], place[known], new[known])
                    there = {name: part[lead[here]] for name, part in state.items()}
                    values[one.name][here] = one.definition.finish(there, one.reading)
        since = cutoff


def _nothing(stream: Sequence[EventFeature], leads: int) -> list[dict[str, np.ndarray]]:
    """The parts of no events, for each feature."""
    return [
        {
            name: np.full(leads, 0.0 if part.merge == "sum" else np.nan)
            for name, part in one.definition.parts.items()
        }
        for one in stream
    ]


def _merge(part: Part, state: np.ndarray, place: np.ndarray, new: np.ndarray) -> None:
    """Merge `new` into the rows `place` of `state`; NaN is the part of no events."""
    if part.merge == "sum":
        state[place] += np.nan_to_num(new)
    else:
        state[place] = (np.fmin if part.merge == "min" else np.fmax)(state[place], new)


def _read_attributes(
    tables: Tables,
    observations: pd.DataFrame,
    features: Sequence[AttributeFeature],
    plan: ReadingPlan,
    values: Values,
) -> None:
    if not features:
        return
    stored = tables.leads.set_index("lead_id").reindex(observations["lead_id"]).reset_index(drop=True)
    for feature in features:
        if not feature.history and feature.raw not in stored:
            raise MissingColumn(
                what=f"the feature {feature.name} reads the column {feature.raw!r}, which the tables do not hold",
                where="leads",
                remedy="Declare the attribute as it was when the model was trained, or train again.",
            )
    raw = {feature.raw: stored[feature.raw] for feature in features if not feature.history}
    latest = latest_changes(features)
    if latest and tables.attribute_changes is not None:
        read = {one.name: np.full(len(observations), None, dtype=object) for one in latest.values()}
        _read(tables, tables.attribute_changes, observations, [*latest.values()], plan, read)
        raw |= {name: pd.Series(read[one.name]) for name, one in latest.items()}
    for feature in features:
        values[feature.name][:] = attribute_values(feature, raw[feature.raw])


def latest_changes(features: Iterable[Feature]) -> dict[str, EventFeature]:
    """What reads the raw values of the features with a history from `Tables.attribute_changes`, by attribute. A
    change is an event whose type is the attribute, so `latest` is read as of everything else."""
    changing = sorted({one.raw for one in features if isinstance(one, AttributeFeature) and one.history})
    return {
        name: EventFeature("latest", (name,), name, name, column="value", alias=name) for name in changing
    }


def attribute_values(feature: AttributeFeature, raw: pd.Series) -> np.ndarray:
    """`feature.read` of every value; each distinct value is read once."""
    if feature.transform is not None:
        raw = apply(feature.transform, raw)
    elif feature.kind != "number" or feature.history:
        code, levels = pd.factorize(raw, use_na_sentinel=True)
        raw = pd.Series(np.array([*map(feature.read, levels.tolist()), None], dtype=object)[code])
    if feature.kind == "number":
        return raw.astype("float64").to_numpy()
    return raw.astype(object).where(raw.notna(), None).to_numpy()


def settle_rates(tables: Tables, views: Sequence[FeatureView], until: int) -> tuple[FeatureView, ...]:
    """The views with every prior that says "the overall rate" learned: successes over trials of the whole
    log as it was known at `until` (epoch seconds; 0 where nothing was tried yet)."""
    return tuple(
        FeatureView(
            view.name,
            tuple(
                replace(one, prior=_overall(tables.events, one, until))
                if isinstance(one, EventFeature) and one.prior is None
                else one
                for one in view.features
            ),
        )
        for view in views
    )


def _overall(events: ir.Table, feature: EventFeature, until: int) -> float:
    counted = overall_rate(events, feature, until).to_pandas().iloc[0]
    trials = int(counted["trials"])
    return int(counted["successes"]) / trials if trials else 0.0
