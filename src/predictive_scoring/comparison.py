"""A challenger beside the champion: judged on the same rows, and scoring today's open leads in the champion's shadow.

A score is a pure function of a bundle and a lead's history, so nothing has to run in parallel for weeks: what a
challenger would have said at any instant of the past can be worked out today, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit

from predictive_scoring.data.dataset import conversions, observe, opted_out
from predictive_scoring.data.feature_frame import feature_frame
from predictive_scoring.data.segments import segment_columns
from predictive_scoring.data.sources import Tables
from predictive_scoring.errors import TrainingImpossible
from predictive_scoring.keeping.bundle import ScoringModel, read_bundle
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.model.evaluation import Metrics, Verdict, evaluate, judge
from predictive_scoring.model.rows import Floats, Whole
from predictive_scoring.timeline import exists_at, format_instant, parse_instant

if TYPE_CHECKING:
    from predictive_scoring.keeping.registry import Version

MOVED = 3
"""Points of score from which a change is worth telling: as for a lead's trend."""


@dataclass(frozen=True)
class Shadow:
    """What both models say of the same leads, at one instant; arrays (n,) alongside ``lead_ids``.

    ``ready`` is True for leads above the line that each model draws."""

    lead_ids: npt.NDArray[np.object_]
    score: Whole
    champion_score: Whole
    ready: npt.NDArray[np.bool_]
    champion_ready: npt.NDArray[np.bool_]

    @property
    def change(self) -> Whole:
        """Points of score, challenger minus champion."""
        return self.score - self.champion_score

    def to_document(self) -> dict[str, Any]:
        """The leads in figures; those that would change sides by id, those with the largest change first."""
        change, order = self.change, np.argsort(-np.abs(self.change), kind="stable")
        sides = {
            "to_ready": order[(self.ready & ~self.champion_ready)[order]],
            "to_nurture": order[(~self.ready & self.champion_ready)[order]],
        }
        return {
            "leads": len(change),
            "mean_change": float(change.mean()) if len(change) else None,
            "quantiles": {
                f"{share:.0%}": float(np.quantile(change, share)) for share in (0.05, 0.25, 0.5, 0.75, 0.95)
            }
            if len(change)
            else {},
            "moved": int((np.abs(change) > MOVED).sum()),
            "ready": {"champion": int(self.champion_ready.sum()), "challenger": int(self.ready.sum())},
            **{name: [str(self.lead_ids[row]) for row in rows] for name, rows in sides.items()},
        }


@dataclass(frozen=True)
class Comparison:
    """Two versions on the same rows, the verdict on the candidate as a challenger, and the open leads in its shadow.

    ``rows`` says which rows were read; ``labels`` and ``probabilities`` (candidate, other) are theirs, (n,) each.
    ``shadow`` is None for a snapshot, which knows no open leads; ``as_of`` is its instant (epoch seconds)."""

    versions: tuple[Version, Version]
    rows: str
    newer: bool
    labels: npt.NDArray[np.int64]
    probabilities: tuple[Floats, Floats]
    candidate: Metrics
    other: Metrics
    verdict: Verdict
    shadow: Shadow | None
    as_of: int

    def to_document(self) -> dict[str, Any]:
        """What `compare --json` prints."""
        candidate, other = self.versions
        challenge, shadow = self.verdict.challenge, self.shadow
        return {
            "candidate": {"version": candidate.version, "metrics": self.candidate.to_document()},
            "against": {"version": other.version, "metrics": self.other.to_document()},
            "rows": {"newer_than_both_models": self.newer, "what": self.rows},
            "verdict": self.verdict.name,
            "reasons": list(self.verdict.reasons),
            "challenge": challenge.to_document() if challenge is not None else None,
            "open_leads": None
            if shadow is None
            else {"as_of": format_instant(self.as_of), **shadow.to_document()},
        }


def compare_versions(tables: Tables, store: BundleStore, candidate: Version, other: Version) -> Comparison:
    """Score matured rows with both versions, each with its own features, and judge the candidate as a challenger.

    Raises UnknownModel where a bundle is gone, TrainingImpossible where no row is left to judge on, and the errors of
    `observe`."""
    models = [read_bundle(store.path(version.bundle)).scoring_model() for version in (candidate, other)]
    observations = observe(tables)
    rows, words, newer = fresh_rows(observations, models)
    frames = _frames(tables, rows, models)
    labels = rows["label"].to_numpy(dtype=np.int64)
    probabilities = [model.model.probability(frame) for model, frame in zip(models, frames, strict=True)]
    known = float(models[0].metrics.get("known_base_rate", 0.0))
    if not 0.0 < known < 1.0:
        known = float(observations["label"].mean())
    verdict = judge(
        labels,
        probabilities[0],
        known_base_rate=known,
        champion_p=probabilities[1],
        leads=rows["lead_id"].to_numpy(dtype=object),
        segments=segment_columns(models[0].project, frames[0]),
        weight=rows["weight"].to_numpy(dtype=np.float64) if "weight" in rows else None,
    )
    return Comparison(
        versions=(candidate, other),
        rows=words,
        newer=newer,
        labels=labels,
        probabilities=(probabilities[0], probabilities[1]),
        candidate=evaluate(labels, probabilities[0]),
        other=evaluate(labels, probabilities[1]),
        verdict=verdict,
        shadow=None if tables.project.is_snapshot else shadow_open(tables, models[0], models[1]),
        as_of=tables.observed_until,
    )


def fresh_rows(observations: pd.DataFrame, models: Sequence[ScoringModel]) -> tuple[pd.DataFrame, str, bool]:
    """The matured rows to judge on, which they are in words, and whether they are newer than what any of the models has
    learned from: cutoffs after its last known one and that one's label window. Otherwise, and for a snapshot, they are
    the test period. Raises TrainingImpossible when that is empty too."""
    known = [end for model in models if (end := _known_until(model)) is not None]
    if len(known) == len(models):
        rows = observations[observations["cutoff"] >= max(known)].reset_index(drop=True)
        if rows["label"].nunique() == 2:
            return rows, f"{_spoken(rows)}, newer than all that either model has learned from", True
    rows = observations[observations["period"] == "test"].reset_index(drop=True)
    if rows.empty:
        raise TrainingImpossible(
            what="no matured example is left that two models could be judged on",
            where=f"{len(observations)} examples",
            remedy="Wait until the next label windows have passed, then compare again.",
        )
    if len(known) < len(models):
        return rows, f"{_spoken(rows, dated=False)}, the newest of the table (the test period)", False
    return rows, f"{_spoken(rows)}, the test period: no newer ones have matured with both outcomes", False


def shadow(
    lead_ids: npt.ArrayLike,
    challenger: tuple[ScoringModel, pd.DataFrame],
    champion: tuple[ScoringModel, pd.DataFrame],
) -> Shadow:
    """What both models say of the same leads (n,), each given its own features of them at one instant."""
    said = []
    for scoring, frame in (challenger, champion):
        logit = scoring.model.logit(frame)
        ready = expit(logit) >= scoring.grading.ready_probability
        said.append((scoring.grading.scores(logit), ready))
    (score, ready), (score_before, ready_before) = said
    ids = np.asarray(lead_ids, dtype=object)
    return Shadow(ids, score, score_before, ready, ready_before)


def shadow_open(tables: Tables, challenger: ScoringModel, champion: ScoringModel) -> Shadow:
    """The leads that are open (there, not converted, not opted out) at the end of the log, by both models."""
    leads, until = tables.leads, tables.observed_until
    gone = leads["lead_id"].isin(conversions(tables).index) | opted_out(leads, tables.project)
    ids = leads.loc[exists_at(leads["created"], until) & ~gone, "lead_id"].reset_index(drop=True)
    observations = pd.DataFrame(
        {"observation_id": np.arange(len(ids), dtype=np.int64), "lead_id": ids, "cutoff": np.int64(until)}
    )
    frames = _frames(tables, observations, (challenger, champion))
    return shadow(ids.to_numpy(dtype=object), (challenger, frames[0]), (champion, frames[1]))


def _frames(tables: Tables, observations: pd.DataFrame, models: Sequence[ScoringModel]) -> list[pd.DataFrame]:
    """Each model's features of the observations; read once where they are the same."""
    frames: list[pd.DataFrame] = []
    for place, model in enumerate(models):
        same = [before for before in range(place) if models[before].features == model.features]
        frames.append(frames[same[0]] if same else feature_frame(tables, observations, model.features))
    return frames


def _known_until(scoring: ScoringModel) -> int | None:
    """End of the last label window that the model has learned from; None for a snapshot."""
    periods: Mapping[str, Mapping[str, Any]] = scoring.metrics.get("periods", {})
    last = [
        parse_instant(periods[name]["last_cutoff"])
        for name in ("train", "calibrate")
        if "last_cutoff" in periods.get(name, {})
    ]
    return max(last) + scoring.project.conversion.horizon if last else None


def _spoken(rows: pd.DataFrame, *, dated: bool = True) -> str:
    told = f"{len(rows):,} rows of {rows['lead_id'].nunique():,} leads"
    if not dated:
        return told
    first, last = (
        format_instant(int(instant))[:10] for instant in (rows["cutoff"].min(), rows["cutoff"].max())
    )
    return f"{told}, cutoffs {first} to {last}"
