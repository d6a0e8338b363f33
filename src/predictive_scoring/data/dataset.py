"""From tables to examples: who was observed when, what happened next, and which period it belongs to.

An example is a (lead, cutoff) pair. It exists only if the lead existed and had not converted before the
cutoff, was not opted out, and its outcome is known: its whole label window has been observed (otherwise it is
censored, which is not the same as negative), or, with censoring weights, it converted already. Periods follow
time: the newest is the test, the one before calibrates; what an earlier period learns was known before the next
one begins. `periods` says how short histories and few conversions are handled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from predictive_scoring.data.censoring import age_bands, censoring_weights, exposure_weights
from predictive_scoring.data.feature_frame import feature_frame, settle_rates
from predictive_scoring.data.maturity import FEW_CONVERSIONS, FEWEST_CONVERSIONS
from predictive_scoring.data.periods import PERIODS, Arrangement, arrangement_of, arrangements, in_time
from predictive_scoring.data.sources import Tables
from predictive_scoring.errors import ConversionNeverOccurs, TrainingImpossible
from predictive_scoring.features.definitions import Feature, FeatureView, features_of
from predictive_scoring.features.silence import sums_to_check
from predictive_scoring.settings import Project
from predictive_scoring.timeline import age, cutoff_grid, exists_at, in_label_window, is_matured

__all__ = ["PERIODS", "Dataset", "build_dataset", "conversions", "event_types", "observe", "opted_out"]

OBSERVATION_COLUMNS = (
    *("observation_id", "lead_id", "cutoff", "horizon", "label", "period"),
    *("weight", "followed", "converted_after"),
)
SHORT_HISTORY = 3
"""Horizons; a shorter history cannot be cut into three periods of matured examples."""


@dataclass(frozen=True)
class Dataset:
    """Examples with their features.

    `observations` has the columns observation_id, lead_id, cutoff, horizon (both seconds), label (0/1),
    period and weight (1, or the censoring weight: of mean 1 in each period). Beyond the label it tells how long
    the example was followed until `observed_until` (`followed`, seconds from the cutoff; infinite where the lead's
    own window has ended, for nothing can come any more) and when it converted (`converted_after`, NaN: not that
    is known): what the curve over several horizons is learned from.

    `frame` holds one column per feature, row by row alongside: float64 with NaN for numbers, text or None for
    categories. `views` are the feature views as they were read, overall rates learned from the log as it was known
    at the last cutoff that trains. `never_negative` are event properties without a number below zero (of those whose
    windowed sums are read; see `features.silence`). `data_hash` is SHA-256 over observations and frame."""

    observations: pd.DataFrame
    frame: pd.DataFrame
    views: tuple[FeatureView, ...]
    data_hash: str
    never_negative: frozenset[str] = frozenset()

    @property
    def features(self) -> tuple[Feature, ...]:
        return features_of(self.views)

    @property
    def kinds(self) -> dict[str, str]:
        """`number` or `category` by feature name."""
        return {feature.name: feature.kind for feature in self.features}

    @property
    def arrangement(self) -> Arrangement:
        """How the examples are held apart (see `data.periods`)."""
        return arrangement_of(self.observations)

    @property
    def is_cold_start(self) -> bool:
        """Whether every example trains, because there are too few conversions to hold any out."""
        return self.arrangement == "none"

    def rows(self, *periods: str) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
        """Features, labels and lead ids of the given periods, oldest first."""
        chosen = self.observations["period"].isin(periods).to_numpy()
        part = self.observations[chosen]
        return (
            self.frame[chosen].reset_index(drop=True),
            part["label"].to_numpy(dtype=np.int64),
            part["lead_id"].to_numpy(dtype=object),
        )


def build_dataset(tables: Tables, views: Sequence[FeatureView]) -> Dataset:
    """Examples of the project's tables with the features of `views`.

    Raises ConversionNeverOccurs and TrainingImpossible."""
    observations = observe(tables)
    known = observations.loc[observations["period"] == "train", "cutoff"]
    settled = settle_rates(tables, views, int(known.max()))
    features = features_of(settled)
    frame = feature_frame(tables, observations, features)
    return Dataset(
        observations, frame, settled, _hash(observations, frame), _never_negative(tables, features)
    )


def observe(tables: Tables) -> pd.DataFrame:
    """The examples without their features (see `Dataset.observations`).

    With fewer than 10 converted leads, or fewer than 60 where some period would lack one of the outcomes, every
    example trains."""
    pairs = _snapshot_pairs(tables) if tables.outcome is not None else _log_pairs(tables)
    total = _converted_leads(tables)
    chosen = None if total < FEWEST_CONVERSIONS else _held_apart(pairs, tables)
    if chosen is None and total < FEW_CONVERSIONS:
        chosen = _cold_start(pairs, tables)
    if chosen is None:
        chosen = _in_time(pairs, tables)
        _refuse_one_class(chosen, tables, PERIODS)
    chosen["observation_id"] = np.arange(len(chosen), dtype=np.int64)
    return chosen[list(OBSERVATION_COLUMNS)]


def conversions(tables: Tables) -> pd.Series:
    """Epoch seconds of each converted lead's first conversion, indexed by lead id."""
    events, event = tables.events, tables.project.conversion.event
    if event is None:
        return pd.Series(dtype="int64")
    chosen = events.filter(events["event_type"] == event)
    frame: pd.DataFrame = chosen.group_by("lead_id").aggregate(first=chosen["occurred"].min()).to_pandas()
    return frame.set_index("lead_id")["first"]


def _converted_leads(tables: Tables) -> int:
    """Leads that converted, whenever."""
    if tables.outcome is not None:
        return int(tables.outcome.sum())
    return int(conversions(tables).index.isin(tables.leads["lead_id"]).sum())


def _log_pairs(tables: Tables) -> pd.DataFrame:
    """Every (lead, cutoff) that may become an example, oldest first, matured or not.

    Columns lead_id, cutoff, horizon, created, delay (seconds to the conversion; NaN while none is known) and end
    (seconds after which nothing can come: the horizon of a lead with an end of its own, else infinite)."""
    project = tables.project
    first_conversion = conversions(tables)
    if first_conversion.empty and project.conversion.expected_rate is None:
        raise ConversionNeverOccurs(
            what=f"the conversion event {project.conversion.event!r} never occurs",
            where="sources.events, column event_type",
            remedy=f"Event types found: {', '.join(event_types(tables))}. Correct `conversion.event`; or, if nobody "
            "can have converted yet, say which share you expect to: `conversion.expected_rate`.",
        )
    leads = tables.leads[["lead_id", "created"]].copy()
    leads["horizon_end"] = tables.leads[project.conversion.until] if project.conversion.until else np.nan
    leads["converted"] = leads["lead_id"].map(first_conversion).astype("float64")
    leads = leads[~opted_out(tables.leads, project)]
    pairs = _pairs(leads, project, tables.observed_until)
    own = (pairs["horizon_end"] - pairs["cutoff"]).fillna(np.inf)
    pairs["horizon"] = own.clip(lower=0, upper=project.conversion.horizon).astype("int64")
    conversion_age = age(pairs["converted"], pairs["cutoff"])
    known = (pairs["converted"] < tables.observed_until) & (-conversion_age < own)
    pairs["delay"] = (-conversion_age).where(known)
    pairs["end"] = own.where(own <= project.conversion.horizon, np.inf)
    eligible = (
        exists_at(pairs["created"], pairs["cutoff"])
        & ~(conversion_age > 0)
        & (pairs["horizon"] > 0)
        & (pairs["cutoff"] < tables.observed_until)
    )
    found: pd.DataFrame = pairs.loc[eligible].sort_values(["cutoff", "lead_id"], ignore_index=True)
    return found


def _uses_weights(pairs: pd.DataFrame, tables: Tables) -> bool:
    chosen = tables.project.conversion.censoring
    if chosen != "auto" or pairs.empty or tables.outcome is not None:
        return chosen == "weights" and tables.outcome is None
    span = tables.observed_until - int(pairs["cutoff"].min())
    return span < SHORT_HISTORY * int(pairs["horizon"].max())


def _held_apart(pairs: pd.DataFrame, tables: Tables) -> pd.DataFrame | None:
    """The examples in three periods that each have both outcomes; None if there is no honest way to make them."""
    if not _uses_weights(pairs, tables):
        found = _in_time(pairs, tables)
        return found if _fewest(found) > 0 else None
    tried = [
        _weighted(pairs, period, known_until, tables)
        for period, known_until in arrangements(
            pairs, _matured(pairs, tables), tables.project.split, tables.observed_until
        )
    ]
    for enough in (FEWEST_CONVERSIONS, 1):
        for found in tried:
            if _fewest(found) >= enough:
                return found
    return None


def _fewest(observations: pd.DataFrame) -> int:
    """Examples of the rarer outcome in the period that has the fewest of it."""
    counted = pd.crosstab(observations["period"], observations["label"])
    return int(counted.reindex(index=list(PERIODS), columns=[0, 1], fill_value=0).to_numpy().min())


def _matured(pairs: pd.DataFrame, tables: Tables) -> pd.Series:
    matured: pd.Series = is_matured(pairs["cutoff"], pairs["horizon"], tables.observed_until)
    return matured


def _in_time(pairs: pd.DataFrame, tables: Tables) -> pd.DataFrame:
    """The matured examples in periods of time; whose label window reaches into the next period is left out."""
    if tables.outcome is not None:
        return _labelled(pairs, tables)
    matured = pairs[_matured(pairs, tables)].reset_index(drop=True)
    if matured.empty:
        raise _none_known(tables)
    matured["period"] = in_time(matured["cutoff"], matured["horizon"], tables.project.split)
    return _labelled(matured[matured["period"] != ""].reset_index(drop=True), tables)


def _labelled(rows: pd.DataFrame, tables: Tables) -> pd.DataFrame:
    """Label of each row, weight 1 unless it has one, and what was seen beyond the label."""
    if tables.outcome is not None:
        return rows.assign(weight=1.0, followed=rows["horizon"].astype("float64"), converted_after=np.nan)
    followed = (tables.observed_until - rows["cutoff"]).astype("float64")
    return rows.assign(
        label=in_label_window(-rows["delay"], rows["horizon"]).astype("int64"),
        weight=rows.get("weight", 1.0),
        followed=followed.where(rows["end"] > followed, np.inf),
        converted_after=rows["delay"],
    )


def _weighted(
    pairs: pd.DataFrame, period: np.ndarray, known_until: np.ndarray, tables: Tables
) -> pd.DataFrame:
    """The examples whose outcome was known at `known_until` (n,), with their censoring weights in each period."""
    followed = known_until - pairs["cutoff"].to_numpy(dtype=np.float64)
    delay = pairs["delay"].where(pairs["delay"] < followed).to_numpy()
    weight = np.zeros(len(pairs))
    born = (pairs["cutoff"] - pairs["created"]).to_numpy()
    for name in PERIODS:
        rows = np.flatnonzero(period == name)
        weight[rows] = censoring_weights(
            delay[rows], followed[rows], pairs["horizon"].to_numpy()[rows], age_bands(born[rows])
        )
    kept = pairs.assign(period=period, weight=weight)[weight > 0].reset_index(drop=True)
    return _labelled(kept, tables)


def _cold_start(pairs: pd.DataFrame, tables: Tables) -> pd.DataFrame:
    """Every example in the period `train`. Raises TrainingImpossible where nothing can be estimated."""
    conversion, until = tables.project.conversion, float(tables.observed_until)
    if tables.outcome is not None:
        found = _labelled(pairs.assign(period="train"), tables)
    elif _uses_weights(pairs, tables):
        found = _weighted(
            pairs, np.full(len(pairs), "train", dtype=object), np.full(len(pairs), until), tables
        )
    else:
        found = _labelled(
            pairs[_matured(pairs, tables)].assign(period="train").reset_index(drop=True), tables
        )
    if found.empty and conversion.expected_rate is not None and len(pairs):
        weight = exposure_weights(pairs["delay"], until - pairs["cutoff"], pairs["horizon"])
        found = _labelled(pairs.assign(period="train", weight=weight), tables)
    if found.empty:
        raise _none_known(tables)
    _refuse_one_class(found, tables, ("train",), never_is_fine=conversion.expected_rate is not None)
    return found


def _none_known(tables: Tables) -> TrainingImpossible:
    return TrainingImpossible(
        what="no example has a known outcome yet",
        where=f"project {tables.project.name}",
        remedy="Wait until the first label window has passed, or choose an earlier `cutoffs.first`. To begin before "
        "that, say which share you expect to convert: `conversion.expected_rate`.",
    )


def _refuse_one_class(
    observations: pd.DataFrame, tables: Tables, periods: Sequence[str], *, never_is_fine: bool = False
) -> None:
    for period in periods:
        labels = observations.loc[observations["period"] == period, "label"]
        if labels.nunique() < 2 and not (never_is_fine and not labels.any()):
            raise TrainingImpossible(
                what=f"the {period} period has {len(labels)} examples and {int(labels.sum())} conversions, "
                "which is fewer than two classes",
                where=f"project {tables.project.name}, split",
                remedy="Collect more history, lengthen the horizon, or change `split`. Before anybody has converted, "
                "`conversion.expected_rate` allows a start.",
            )


def _pairs(leads: pd.DataFrame, project: Project, observed_until: int) -> pd.DataFrame:
    cutoffs = project.cutoffs
    if cutoffs is None or cutoffs.at == "created_at":
        return leads.assign(cutoff=leads["created"])
    grid = cutoff_grid(int(cutoffs.first or 0), observed_until, int(cutoffs.every or 0))
    parts = [leads[exists_at(leads["created"], cutoff)].assign(cutoff=cutoff) for cutoff in grid]
    return pd.concat(parts, ignore_index=True) if parts else leads.assign(cutoff=0).iloc[:0]


def opted_out(leads: pd.DataFrame, project: Project) -> pd.Series:
    """True for leads that asked not to be profiled: neither scored nor trained on."""
    column = project.contact.opted_out
    if column is None:
        return pd.Series(False, index=leads.index)
    return leads[column].fillna(False).astype(bool)


def event_types(tables: Tables) -> tuple[str, ...]:
    """Event types in the log, most frequent first."""
    events = tables.events
    counted = events.group_by("event_type").aggregate(n=events.count()).to_pandas()
    return tuple(counted.sort_values(["n", "event_type"], ascending=[False, True])["event_type"])


def _snapshot_pairs(tables: Tables) -> pd.DataFrame:
    """The rows of a snapshot in their order, with label and period."""
    project, leads = tables.project, tables.leads
    keep = ~opted_out(leads, project)
    rows = (
        leads.loc[keep, ["lead_id", "created"]].rename(columns={"created": "cutoff"}).reset_index(drop=True)
    )
    rows["horizon"] = project.conversion.horizon
    rows["label"] = pd.Series(tables.outcome)[keep.to_numpy()].to_numpy(dtype=np.int64)
    if rows["label"].sum() == 0 and project.conversion.expected_rate is None:
        raise ConversionNeverOccurs(
            what=f"no row has {project.conversion.column} = {project.conversion.positive!r}",
            where=f"sources.snapshot, column {project.conversion.column}",
            remedy="Correct `conversion.positive`: it is compared as text; or, if nobody can have converted yet, say "
            "which share you expect to: `conversion.expected_rate`.",
        )
    total = len(rows)
    test_start = round(total * (1.0 - project.split.test))
    calibrate_start = round(total * (1.0 - project.split.test - project.split.calibrate))
    rows["period"] = np.select(
        [np.arange(total) < calibrate_start, np.arange(total) < test_start], ["train", "calibrate"], "test"
    )
    return rows


def _never_negative(tables: Tables, features: Sequence[Feature]) -> frozenset[str]:
    """The event properties that are summed over a window and hold no number below zero."""
    columns = sums_to_check(features)
    if not columns:
        return frozenset()
    events = tables.events
    lowest = {f"lowest_{number}": events[name].cast("float64").min() for number, name in enumerate(columns)}
    found = events.aggregate(**lowest).to_pandas().iloc[0]
    return frozenset(name for name, value in zip(columns, found, strict=True) if not value < 0)


def _hash(observations: pd.DataFrame, frame: pd.DataFrame) -> str:
    """SHA-256 of the examples; of the columns that tell when something happened, those that tell anything."""
    silent = [
        name
        for name, trivial in (
            ("weight", bool((observations["weight"] == 1.0).all())),
            ("followed", bool(observations["converted_after"].isna().all())),
            ("converted_after", bool(observations["converted_after"].isna().all())),
        )
        if trivial
    ]
    digest = hashlib.sha256()
    for part in (observations.drop(columns=silent), frame):
        digest.update(",".join(part.columns).encode())
        digest.update(pd.util.hash_pandas_object(part, index=False).to_numpy().tobytes())
    return digest.hexdigest()
