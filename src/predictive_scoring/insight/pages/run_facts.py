"""The facts of a training run that its report tells, and what is counted from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import logit as log_odds
from scipy.stats import norm

from predictive_scoring.features.definitions import Feature
from predictive_scoring.model.evaluation import gain_table
from predictive_scoring.model.grading import Grading
from predictive_scoring.model.performance import standing
from predictive_scoring.schema import SCORE_POINTS_PER_LOG_ODDS
from predictive_scoring.settings import Project

Floats = npt.NDArray[np.float64]

FEWEST_OF_EACH = 10
"""Conversions, and other examples, below which a group's AUC, lift and calibration say nothing."""
SHOWN_LEVELS = 8


@dataclass(frozen=True)
class Rows:
    """Examples that a model is looked at with: n rows, and m of them whose contributions were worked out.

    `labels` and `probability` are (n,); `leads` (n,) the lead ids; `frame` holds one column per feature, row by row
    alongside. `contributions` (m, k) are in log-odds, a column per feature of `RunFacts.features`; `shown` (m,)
    says which rows they are."""

    frame: pd.DataFrame
    labels: npt.NDArray[np.int64]
    leads: npt.NDArray[np.object_]
    probability: Floats
    shown: npt.NDArray[np.int64]
    contributions: Floats

    @cached_property
    def points(self) -> Floats:
        """Contributions (m, k) in score points."""
        return SCORE_POINTS_PER_LOG_ODDS * self.contributions

    @cached_property
    def shown_frame(self) -> pd.DataFrame:
        return self.frame.iloc[self.shown].reset_index(drop=True)


@dataclass(frozen=True)
class RunFacts:
    """What a report tells of one run.

    `features` are the model's, in the order of its columns. `rows` are the test period's where one was held out
    (`held_out`), otherwise those it learned from, of which only the model's view is shown. `measures` holds the
    metrics by period, `periods` their examples, conversions and cutoffs; `provenance` what stands in the card
    (name, value); `evidence` the basis, conversions and examples that the model rests on. `trials` are the settings
    that were tried, each with its `log_loss`; `waived` the documents of suspected leaks that somebody answers for;
    `set_aside` maps a feature to why it is not read."""

    project: Project
    features: Sequence[Feature]
    grading: Grading
    verdict: str
    reasons: Sequence[str]
    rows: Rows
    held_out: bool
    measures: Mapping[str, Mapping[str, Any]]
    periods: Mapping[str, Mapping[str, Any]]
    known_base_rate: float | None = None
    evidence: Mapping[str, Any] | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    trials: Sequence[Mapping[str, Any]] = ()
    chosen: Mapping[str, Any] | None = None
    waived: Sequence[Mapping[str, Any]] = ()
    set_aside: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def ready_share(self) -> float:
        """Share of the rows at or above the line of readiness."""
        return float((self.rows.probability >= self.grading.ready_probability).mean())

    @cached_property
    def scores(self) -> npt.NDArray[np.int64]:
        """Scores (n,) of the rows."""
        # Probabilities of 0 and 1 do not come from a model, but they may from a file.
        return self.grading.scores(log_odds(np.clip(self.rows.probability, 1e-9, 1.0 - 1e-9)))


@dataclass(frozen=True)
class ConceptWeight:
    """How much one concept moves scores: mean absolute score points of all its features together."""

    name: str
    groups: str
    features: int
    points: float


@dataclass(frozen=True)
class LevelEffect:
    """Mean score points of a category's level."""

    level: str
    leads: int
    points: float


@dataclass(frozen=True)
class SegmentRow:
    """How well one group of leads is scored; figures are None where the group is too small to say."""

    level: str
    examples: int
    conversions: int
    rate: float
    promised: float
    auc: float | None
    ratio: tuple[float, float, float] | None
    """Conversions over expected conversions, with the ends of its 90 % range."""
    lift: float | None
    off: str | None = None
    """`more` or `fewer` where more or fewer converted than were promised, and chance does not explain it."""


@dataclass(frozen=True)
class ScoreBand:
    """Examples with a score from `low` to `high`, and what became of them."""

    low: int
    high: int
    share: float
    conversions: int
    rate: float | None


@dataclass(frozen=True)
class Segment:
    """An attribute and its groups, the largest first; `left_out` levels were not shown."""

    label: str
    rows: Sequence[SegmentRow]
    left_out: int


def score_bands(facts: RunFacts) -> list[ScoreBand]:
    """The rows by score, the best first; bands of ten points with the ends drawn together."""
    edges = (1, 30, 40, 50, 60, 70, 100)
    found = []
    for low, above in pairwise(edges):
        chosen = (facts.scores >= low) & (facts.scores < above)
        labels = facts.rows.labels[chosen]
        rate = float(labels.mean()) if len(labels) else None
        found.append(ScoreBand(low, above - 1, float(chosen.mean()), int(labels.sum()), rate))
    return found[::-1]


def concept_weights(facts: RunFacts) -> list[ConceptWeight]:
    """The concepts, the weightiest first; those that move nothing left out."""
    members: dict[str, list[int]] = {}
    for number, feature in enumerate(facts.features):
        members.setdefault(feature.concept, []).append(number)
    weights = [
        ConceptWeight(
            name,
            " and ".join(dict.fromkeys(facts.features[number].group for number in numbers)),
            len(numbers),
            float(np.abs(facts.rows.points[:, numbers].sum(axis=1)).mean()),
        )
        for name, numbers in members.items()
    ]
    return sorted((one for one in weights if one.points > 0.0), key=lambda one: (-one.points, one.name))


def heaviest(facts: RunFacts, kind: str, most: int) -> list[int]:
    """Numbers of the features of a kind (`number` or `category`) that move scores most, the heaviest first."""
    weight = np.abs(facts.rows.points).mean(axis=0)
    chosen = [n for n, feature in enumerate(facts.features) if feature.kind == kind and weight[n] > 0.0]
    return sorted(chosen, key=lambda n: (-weight[n], facts.features[n].name))[:most]


def level_effects(facts: RunFacts, number: int) -> list[LevelEffect]:
    """Mean score points of the most frequent levels of one category, the largest first."""
    values = _levels(facts.rows.shown_frame[facts.features[number].name])
    found = pd.DataFrame({"level": values, "points": facts.rows.points[:, number]})
    table = found.groupby("level")["points"].agg(["size", "mean"])
    table = table.sort_values("size", ascending=False, kind="stable").head(SHOWN_LEVELS)
    effects = [
        LevelEffect(str(level), int(size), float(mean))
        for level, size, mean in table.itertuples(index=True, name=None)
    ]
    return sorted(effects, key=lambda one: (-one.points, one.level))


def segments(facts: RunFacts) -> list[Segment]:
    """Quality by group for `monitoring.segments`, by default for every category among the attributes.

    A group is marked as off at a level of 10 % over all groups together (Bonferroni): among fifty groups a few lie
    outside their own 90 % range by chance."""
    attributes = facts.project.attributes
    labels = {feature.name: feature.label for feature in facts.features}
    chosen: list[tuple[str, dict[str, npt.NDArray[np.bool_]], int]] = []
    for name in facts.project.segments:
        if name in facts.rows.frame.columns:
            values = _levels(facts.rows.frame[name])
            order = values.value_counts()
            levels = sorted(order.index, key=lambda level: (-order[level], level))
            label = labels.get(name) or (attributes[name].label if name in attributes else name)
            if len(levels) > 1:
                groups = {level: (values == level).to_numpy() for level in levels[:SHOWN_LEVELS]}
                chosen.append((label, groups, len(levels) - len(groups)))
    far = float(norm.isf(0.05 / max(sum(len(groups) for _, groups, _ in chosen), 1)))
    return [
        Segment(label, [_segment_row(facts, level, rows, far) for level, rows in groups.items()], left_out)
        for label, groups, left_out in chosen
    ]


def _segment_row(facts: RunFacts, level: str, chosen: npt.NDArray[np.bool_], far: float) -> SegmentRow:
    y, p = facts.rows.labels[chosen], facts.rows.probability[chosen]
    conversions = int(y.sum())
    rates = (level, len(y), conversions, float(y.mean()), float(p.mean()))
    if min(conversions, len(y) - conversions) < FEWEST_OF_EACH:
        return SegmentRow(*rates, None, None, None)
    measured = standing(level, y, p, facts.rows.leads[chosen], facts.known_base_rate or float(p.mean()))
    ratio = measured.ratio
    gap = math.log(ratio.value) / ratio.error if ratio.error > 0.0 else 0.0
    return SegmentRow(
        *rates,
        measured.auc.value,
        (ratio.value, ratio.low, ratio.high),
        float(gain_table(y, p, steps=10)["lift"].iloc[0]),
        "more" if gap > far else "fewer" if gap < -far else None,
    )


def _levels(column: pd.Series) -> pd.Series:
    """The column as texts, gaps as a level of their own."""
    return column.astype(object).where(column.notna(), "unknown").astype(str)
