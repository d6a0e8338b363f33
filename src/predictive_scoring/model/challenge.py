"""Has a challenger earned the champion's place? Paired tests on the same rows, none of which either has learned from.

Rows of one lead at several cutoffs are not independent, so every error is clustered by lead. All differences are
challenger minus champion. A challenger has *earned* the place only if its log-loss is lower (one-sided p <= .05) and it
is not worse in ranking, calibration or any segment (one-sided p <= .01 each: three further tests at .05 would turn away
one better model in eight). Two models without a difference leave the champion where it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

from predictive_scoring.model.paired import (
    REPLICATES,
    Difference,
    paired_auc,
    paired_calibration,
    paired_mean,
    plain,
)
from predictive_scoring.model.rows import Floats, Whole, checked_rows, row_losses

EARNED_LEVEL = 0.05
"""Largest one-sided p-value at which a lower log-loss counts as earned."""
WORSE_LEVEL = 0.01
"""Largest one-sided p-value at which ranking, calibration or a segment counts as worse."""
TOLERATED = 0.02
"""Calibration may be off by this share of the base rate more than the champion's: on very many rows the smallest
difference is significant, and none of it matters."""
FEWEST_ROWS, FEWEST_CONVERSIONS = 200, 10
"""A segment with fewer is not tested."""
TOP = 0.10
"""The share of the rows whose churn is told: leads that sales would work."""


@dataclass(frozen=True)
class SegmentDifference:
    """Log-loss of both models among the rows of one level of one column. ``p_holm`` is the one-sided p-value of
    "not worse there", corrected for the number of segments (Holm, 1979)."""

    column: str
    level: str
    rows: int
    conversions: int
    log_loss: Difference
    p_holm: float

    @property
    def worse(self) -> bool:
        return self.log_loss.difference > 0 and self.p_holm <= WORSE_LEVEL

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document."""
        return {**plain(asdict(self)), "log_loss": self.log_loss.to_document(), "worse": self.worse}


@dataclass(frozen=True)
class Churn:
    """How much the ranking moves. ``spearman`` is the rank correlation of both probabilities (NaN where one is
    constant); ``kept`` the share of the champion's ``top`` rows that are among the challenger's."""

    spearman: float
    top: int
    kept: float

    @property
    def sentence(self) -> str:
        order = (
            "" if math.isnan(self.spearman) else f"; the two orders agree to {self.spearman:.3f} (Spearman)"
        )
        return f"{self.kept:.0%} of the champion's top {self.top:,} stay in the top {self.top:,}{order}."

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document; NaN becomes null."""
        return plain(asdict(self))


@dataclass(frozen=True)
class Check:
    """One of the conditions of a promotion: ``name`` is log_loss, auc, calibration or segments; ``sentence`` says
    with its numbers whether it ``passed``."""

    name: str
    passed: bool
    sentence: str

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document."""
        return asdict(self)


@dataclass(frozen=True)
class Challenge:
    """A challenger against the champion on the same rows (``rows`` of ``leads`` leads)."""

    rows: int
    leads: int
    conversions: int
    log_loss: Difference
    auc: Difference
    in_the_large: Difference
    """Distance between mean prediction and observed rate."""
    ece: Difference
    segments: tuple[SegmentDifference, ...]
    """Worst first."""
    churn: Churn

    @property
    def checks(self) -> tuple[Check, ...]:
        return (self._gain(), self._ranking(), self._calibration(), self._segments())

    @property
    def earned(self) -> bool:
        """Whether the challenger may take the champion's place."""
        return all(check.passed for check in self.checks)

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document."""
        return {
            "earned": self.earned,
            "checks": [check.to_document() for check in self.checks],
            "rows": self.rows,
            "leads": self.leads,
            "conversions": self.conversions,
            "log_loss": self.log_loss.to_document(),
            "auc": self.auc.to_document(),
            "calibration_in_the_large": self.in_the_large.to_document(),
            "ece": self.ece.to_document(),
            "segments": [segment.to_document() for segment in self.segments],
            "churn": self.churn.to_document(),
        }

    def _gain(self) -> Check:
        loss, where = self.log_loss, f"the same {self.rows:,} rows"
        if self.leads < self.rows:
            where += f" of {self.leads:,} leads"
        if loss.difference == 0.0 and loss.low == loss.high:
            same = f"Log-loss is the champion's, {loss.champion:.4f}, on {where}: nothing would be gained."
            return Check("log_loss", False, same)
        earned = loss.difference < 0 and loss.p_lower <= EARNED_LEVEL
        told = (
            f"Log-loss {loss.challenger:.4f} is {_relation(loss, 4, 'lower', 'higher')} than the champion's "
            f"{loss.champion:.4f} on {where} ({_range(loss, 4)}, p = {loss.p_lower:.3f})"
        )
        return Check(
            "log_loss",
            earned,
            f"{told}."
            if earned
            else f"{told}; a promotion is earned by a lower one with p <= {EARNED_LEVEL}.",
        )

    def _ranking(self) -> Check:
        auc = self.auc
        if math.isnan(auc.difference):
            return Check("auc", False, "Only one kind of outcome: the two rankings cannot be compared.")
        worse = auc.difference < 0 and auc.p_lower <= WORSE_LEVEL
        told = (
            f"AUC {auc.challenger:.4f} is {_relation(auc, 4, 'below', 'above')} the champion's {auc.champion:.4f} "
            f"({_range(auc, 4)})"
        )
        return Check("auc", not worse, f"{told}{_not_worse(worse, auc.p_lower)}")

    def _calibration(self) -> Check:
        large, ece = self.in_the_large, self.ece
        allowed = TOLERATED * self.conversions / self.rows
        worst = min((large, ece), key=lambda part: (part.difference <= allowed, part.p_higher))
        worse = worst.difference > allowed and worst.p_higher <= WORSE_LEVEL
        told = (
            f"Calibration: the mean prediction is {100 * large.challenger:.2f} points away from the observed rate "
            f"(champion {100 * large.champion:.2f}), ECE {ece.challenger:.4f} (champion {ece.champion:.4f}; "
            f"{_range(ece, 4)})"
        )
        return Check("calibration", not worse, f"{told}{_not_worse(worse, worst.p_higher)}")

    def _segments(self) -> Check:
        number, worse = len(self.segments), [segment for segment in self.segments if segment.worse]
        if not number:
            few = f"No segment has {FEWEST_ROWS} rows and {FEWEST_CONVERSIONS} conversions, so none was compared."
            return Check("segments", True, few)
        told = [
            f"{part.column} = {part.level} ({part.rows:,} rows): log-loss {part.log_loss.challenger:.4f}, champion "
            f"{part.log_loss.champion:.4f}, {_range(part.log_loss, 4)}, p = {part.p_holm:.3f}"
            for part in worse or self.segments[:1]
        ]
        if worse:
            corrected = f"corrected for {number} segments"
            return Check(
                "segments",
                False,
                f"Worse in {len(worse)} of {number} segments: {'; '.join(told)} ({corrected}).",
            )
        return Check("segments", True, f"Worse in none of {number} segments; furthest back is {told[0]}.")


def challenge(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    champion_p: npt.ArrayLike,
    *,
    leads: npt.ArrayLike | None = None,
    segments: Mapping[str, npt.ArrayLike] | None = None,
    weight: npt.ArrayLike | None = None,
    top: int | None = None,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Challenge:
    """Compare a challenger's probabilities ``p`` (n,) with the champion's (n,) against outcomes ``y`` (n,) of 0/1.

    ``leads`` (n,) names each row's lead (default: every row another one), ``segments`` maps a column to its levels
    (n,; missing levels belong to no segment), ``weight`` (n,) counts rows more or less (censoring), ``top`` is the
    number of rows whose churn is told (default: a tenth), ``seed`` and ``replicates`` belong to the bootstrap of
    calibration.
    Raises ValueError for impossible input.
    """
    outcome, challenger = checked_rows(y, p)
    _, champion = checked_rows(outcome, champion_p)
    n = len(outcome)
    code, number = _leads(leads, n)
    w = np.ones(n) if weight is None else np.asarray(weight, dtype=np.float64)
    if w.shape != (n,) or not (w >= 0).all() or w.sum() <= 0:
        raise ValueError("weights must be one number >= 0 per row, and not all 0")
    losses = row_losses(outcome, challenger), row_losses(outcome, champion)
    large, ece = paired_calibration(outcome, challenger, champion, code, w, seed=seed, replicates=replicates)
    return Challenge(
        rows=n,
        leads=number,
        conversions=int(outcome.sum()),
        log_loss=paired_mean(*losses, code, w),
        auc=paired_auc(outcome, challenger, champion, code, w),
        in_the_large=large,
        ece=ece,
        segments=_segments(outcome, losses, code, w, segments or {}),
        churn=churn(challenger, champion, top if top is not None else max(1, math.ceil(round(TOP * n, 9)))),
    )


def churn(challenger: Floats, champion: Floats, top: int) -> Churn:
    """How far the ranking by the challenger differs from the champion's (both (n,))."""
    ranks = rankdata(challenger), rankdata(champion)
    spread = ranks[0].std() * ranks[1].std()
    spearman = float(np.cov(*ranks, bias=True)[0, 1] / spread) if spread > 0 else math.nan
    count = min(max(top, 1), len(champion))
    # Everybody at the edge belongs to the top, so that nothing depends on the order of rows.
    edges = [np.partition(p, len(p) - count)[len(p) - count] for p in (challenger, champion)]
    above = champion >= edges[1]
    return Churn(spearman, count, float((challenger[above] >= edges[0]).mean()))


def _segments(
    y: Floats,
    losses: tuple[Floats, Floats],
    code: Whole,
    weight: Floats,
    segments: Mapping[str, npt.ArrayLike],
) -> tuple[SegmentDifference, ...]:
    found: list[tuple[str, str, int, int, Difference]] = []
    for column, levels in segments.items():
        places, names = pd.factorize(np.asarray(levels, dtype=object), sort=False)
        if len(places) != len(y):
            raise ValueError(f"the segment column {column!r} has {len(places)} levels for {len(y)} rows")
        rows = np.bincount(places[places >= 0], minlength=len(names))
        hits = np.bincount(places[places >= 0], weights=y[places >= 0], minlength=len(names))
        for level in np.flatnonzero((rows >= FEWEST_ROWS) & (hits >= FEWEST_CONVERSIONS)):
            inside = places == level
            _, inner = np.unique(code[inside], return_inverse=True)
            paired = paired_mean(losses[0][inside], losses[1][inside], inner, weight[inside])
            found.append((column, str(names[level]), int(rows[level]), int(hits[level]), paired))
    found.sort(key=lambda part: (part[4].p_higher, part[0], part[1]))
    corrected, running = [], 0.0
    for place, part in enumerate(found):
        running = max(running, min(1.0, part[4].p_higher * (len(found) - place)))
        corrected.append(SegmentDifference(*part, running))
    return tuple(corrected)


def _leads(leads: npt.ArrayLike | None, n: int) -> tuple[Whole, int]:
    if leads is None:
        return np.arange(n, dtype=np.int64), n
    code, names = pd.factorize(np.asarray(leads, dtype=object), sort=False)
    if len(code) != n or (code < 0).any():
        raise ValueError(f"need one lead for each of {n} rows")
    return np.asarray(code, dtype=np.int64), len(names)


def _relation(figure: Difference, digits: int, lower: str, higher: str) -> str:
    return f"{abs(figure.difference):.{digits}f} {lower if figure.difference < 0 else higher}"


def _range(figure: Difference, digits: int) -> str:
    return f"90 % range of the difference {figure.low:+.{digits}f} to {figure.high:+.{digits}f}"


def _not_worse(worse: bool, p: float) -> str:
    return f": worse, p = {p:.3f}." if worse else ": not worse."
