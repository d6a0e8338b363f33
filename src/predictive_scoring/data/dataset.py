"""From tables to examples: who was observed when, what happened next, and which period it belongs to.

An example is a (lead, cutoff) pair. It exists only if the lead existed and had not converted before the
cutoff, was not opted out, and its whole label window has been observed (otherwise it is censored, which
is not the same as negative). Periods follow time: the newest is the test, the one before calibrates, and
an example whose label window reaches into the next period is dropped, so no outcome is shared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from predictive_scoring.data.feature_frame import feature_frame, settle_rates
from predictive_scoring.data.sources import Tables
from predictive_scoring.errors import ConversionNeverOccurs, TrainingImpossible
from predictive_scoring.features.definitions import Feature, FeatureView, features_of
from predictive_scoring.settings import Project, SplitSettings
from predictive_scoring.timeline import age, cutoff_grid, exists_at, in_label_window, is_matured

OBSERVATION_COLUMNS = ("observation_id", "lead_id", "cutoff", "horizon", "label", "period")
PERIODS = ("train", "calibrate", "test")


@dataclass(frozen=True)
class Dataset:
    """Examples with their features.

    `observations` has the columns observation_id, lead_id, cutoff, horizon (both seconds), label (0/1)
    and period; `frame` holds one column per feature, row by row alongside: float64 with NaN for numbers,
    text or None for categories. `views` are the feature views as they were read, overall rates learned
    from the log as it was known at the last cutoff that trains. `data_hash` is SHA-256 over observations and frame."""

    observations: pd.DataFrame
    frame: pd.DataFrame
    views: tuple[FeatureView, ...]
    data_hash: str

    @property
    def features(self) -> tuple[Feature, ...]:
        return features_of(self.views)

    @property
    def kinds(self) -> dict[str, str]:
        """`number` or `category` by feature name."""
        return {feature.name: feature.kind for feature in self.features}

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
    frame = feature_frame(tables, observations, features_of(settled))
    return Dataset(observations, frame, settled, _hash(observations, frame))


def observe(tables: Tables) -> pd.DataFrame:
    """The examples without their features (see `Dataset.observations`)."""
    observations = _observe_snapshot(tables) if tables.outcome is not None else _observe_log(tables)
    if observations.empty:
        raise TrainingImpossible(
            what="no example has a known outcome yet",
            where=f"project {tables.project.name}",
            remedy="Wait until the first label window has passed, or choose an earlier `cutoffs.first`.",
        )
    for period in PERIODS:
        labels = observations.loc[observations["period"] == period, "label"]
        if labels.nunique() < 2:
            raise TrainingImpossible(
                what=f"the {period} period has {len(labels)} examples and {int(labels.sum())} conversions, "
                "which is fewer than two classes",
                where=f"project {tables.project.name}, split",
                remedy="Collect more history, lengthen the horizon, or change `split`.",
            )
    return observations


def conversions(tables: Tables) -> pd.Series:
    """Epoch seconds of each converted lead's first conversion, indexed by lead id."""
    events, event = tables.events, tables.project.conversion.event
    if event is None:
        return pd.Series(dtype="int64")
    chosen = events.filter(events["event_type"] == event)
    frame: pd.DataFrame = chosen.group_by("lead_id").aggregate(first=chosen["occurred"].min()).to_pandas()
    return frame.set_index("lead_id")["first"]


def _observe_log(tables: Tables) -> pd.DataFrame:
    project = tables.project
    first_conversion = conversions(tables)
    if first_conversion.empty:
        raise ConversionNeverOccurs(
            what=f"the conversion event {project.conversion.event!r} never occurs",
            where="sources.events, column event_type",
            remedy=f"Event types found: {', '.join(event_types(tables))}. Correct `conversion.event`.",
        )
    leads = tables.leads[["lead_id", "created"]].copy()
    leads["horizon_end"] = tables.leads[project.conversion.until] if project.conversion.until else np.nan
    leads["converted"] = leads["lead_id"].map(first_conversion)
    leads = leads[~opted_out(tables.leads, project)]
    pairs = _pairs(leads, project, tables.observed_until)
    until = (pairs["horizon_end"] - pairs["cutoff"]).fillna(np.inf)
    pairs["horizon"] = until.clip(lower=0, upper=project.conversion.horizon).astype("int64")
    conversion_age = age(pairs["converted"], pairs["cutoff"])
    eligible = (
        exists_at(pairs["created"], pairs["cutoff"])
        & ~(conversion_age > 0)
        & is_matured(pairs["cutoff"], pairs["horizon"], tables.observed_until)
        & (pairs["horizon"] > 0)
    )
    pairs["label"] = in_label_window(conversion_age, pairs["horizon"]).astype("int64")
    chosen = pairs.loc[eligible].sort_values(["cutoff", "lead_id"], ignore_index=True)
    chosen["period"] = periods_in_time(chosen["cutoff"], chosen["horizon"], project.split)
    kept: pd.DataFrame = chosen[chosen["period"] != ""].reset_index(drop=True)
    kept["observation_id"] = np.arange(len(kept), dtype=np.int64)
    return kept[list(OBSERVATION_COLUMNS)]


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


def periods_in_time(cutoff: pd.Series, horizon: pd.Series, split: SplitSettings) -> np.ndarray:
    """Period of each example by its cutoff, both series in seconds and sorted by cutoff.

    Borders lie between cutoffs, at the shares of examples that `split` asks for. An example whose label
    window ends after the next period starts belongs to no period (the empty text)."""
    if cutoff.empty:
        return np.array([], dtype=object)
    instants = cutoff.to_numpy()
    if split.test_from is None:
        test_start = _instant_at(instants, 1.0 - split.test)
        share = 1.0 - split.calibrate / (1.0 - split.test)
    else:
        test_start, share = split.test_from, 1.0 - split.calibrate
    earlier = instants[instants < test_start]
    calibrate_start = _instant_at(earlier, share) if len(earlier) else test_start
    if len(earlier) and calibrate_start == earlier[0]:
        calibrate_start = int(np.unique(earlier)[1]) if len(np.unique(earlier)) > 1 else test_start
    ends = instants + horizon.to_numpy()
    first_test = instants[instants >= test_start].min(initial=np.iinfo(np.int64).max)
    period = np.full(len(instants), "", dtype=object)
    period[(instants < calibrate_start) & (ends <= calibrate_start)] = "train"
    period[(instants >= calibrate_start) & (instants < test_start) & (ends <= first_test)] = "calibrate"
    period[instants >= test_start] = "test"
    return period


def _instant_at(instants: np.ndarray, share: float) -> int:
    return int(instants[min(len(instants) - 1, int(len(instants) * share))])


def _observe_snapshot(tables: Tables) -> pd.DataFrame:
    project, leads = tables.project, tables.leads
    keep = ~opted_out(leads, project)
    rows = (
        leads.loc[keep, ["lead_id", "created"]].rename(columns={"created": "cutoff"}).reset_index(drop=True)
    )
    rows["horizon"] = project.conversion.horizon
    rows["label"] = pd.Series(tables.outcome)[keep.to_numpy()].to_numpy(dtype=np.int64)
    if rows["label"].sum() == 0:
        raise ConversionNeverOccurs(
            what=f"no row has {project.conversion.column} = {project.conversion.positive!r}",
            where=f"sources.snapshot, column {project.conversion.column}",
            remedy="Correct `conversion.positive`: it is compared as text.",
        )
    total = len(rows)
    test_start = round(total * (1.0 - project.split.test))
    calibrate_start = round(total * (1.0 - project.split.test - project.split.calibrate))
    rows["period"] = np.select(
        [np.arange(total) < calibrate_start, np.arange(total) < test_start], ["train", "calibrate"], "test"
    )
    rows["observation_id"] = np.arange(total, dtype=np.int64)
    return rows[list(OBSERVATION_COLUMNS)]


def _hash(observations: pd.DataFrame, frame: pd.DataFrame) -> str:
    digest = hashlib.sha256()
    for part in (observations, frame):
        digest.update(",".join(part.columns).encode())
        digest.update(pd.util.hash_pandas_object(part, index=False).to_numpy().tobytes())
    return digest.hexdigest()
