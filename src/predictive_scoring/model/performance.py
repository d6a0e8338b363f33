"""How a model does on rows whose outcome has come to be known: calibration and ranking with their errors.

Rows of one lead at several cutoffs are alike, so every standard error here takes the lead as the unit: the
contributions of a lead's rows to a figure are summed before they are squared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

from predictive_scoring.model.evaluation import evaluate
from predictive_scoring.model.rows import row_losses

Floats = npt.NDArray[np.float64]

FEWEST_CONVERSIONS = 20
"""Below, neither calibration nor ranking is judged."""
SEGMENT_ROWS = 100
"""Rows that one level of a segment needs."""
_Z90 = float(norm.ppf(0.95))


@dataclass(frozen=True)
class Estimate:
    """A figure with its standard error and a 90 % range; NaN where it cannot be measured."""

    value: float
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class Standing:
    """How probabilities did among some rows.

    ``ratio`` is conversions over expected conversions: 1 is calibrated, 2 means that twice as many converted as were
    promised; its ``error`` is that of the logarithm. ``versus_known`` is the log-loss minus that of always answering
    the rate known at training; below 0 the model helps."""

    name: str
    rows: int
    leads: int
    conversions: int
    expected: float
    base_rate: float
    auc: Estimate
    ratio: Estimate
    log_loss: float
    versus_known: Estimate
    ece: float

    @property
    def judgeable(self) -> bool:
        """Whether there are outcomes enough to say anything."""
        return min(self.conversions, self.rows - self.conversions) >= FEWEST_CONVERSIONS

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document; NaN becomes null."""
        return {**plain(asdict(self)), "judgeable": self.judgeable}


def standing(
    name: str, y: npt.ArrayLike, p: npt.ArrayLike, leads: npt.ArrayLike, known_rate: float
) -> Standing:
    """Measure probabilities (n,) against outcomes (n,) of 0/1 of the given leads (n,); n >= 1."""
    outcome, probability = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    lead = np.unique(np.asarray(leads), return_inverse=True)[1]
    metrics = evaluate(outcome, probability)
    return Standing(
        name=name,
        rows=metrics.n,
        leads=int(lead.max()) + 1,
        conversions=metrics.conversions,
        expected=float(probability.sum()),
        base_rate=metrics.base_rate,
        auc=_auc(outcome, probability, lead),
        ratio=_ratio(outcome, probability, lead),
        log_loss=metrics.log_loss,
        versus_known=_versus(outcome, probability, lead, known_rate),
        ece=metrics.ece,
    )


def hanley_mcneil(auc: float, conversions: float, others: float) -> float:
    """Return the standard error of an AUC known only by its value and numbers (Hanley and McNeil, 1982)."""
    one, two = auc / (2.0 - auc), 2.0 * auc**2 / (1.0 + auc)
    variance = (
        auc * (1.0 - auc) + (conversions - 1.0) * (one - auc**2) + (others - 1.0) * (two - auc**2)
    ) / (conversions * others)
    return float(max(variance, 0.0) ** 0.5)


def two_sided(z: float) -> float:
    """p-value of a standard normal ``z``; 1 for NaN."""
    return float(2.0 * norm.sf(abs(z))) if z == z else 1.0


def one_sided(z: float) -> float:
    """p-value of a standard normal at least as large as ``z``; 1 for NaN."""
    return float(norm.sf(z)) if z == z else 1.0


def blocks(rows: int, most: int) -> Sequence[slice]:
    """At most ``most`` equal runs of rows, for data without dates."""
    edges = np.linspace(0, rows, min(most, rows) + 1).astype(int)
    return [slice(a, b) for a, b in pairwise(edges.tolist())]


def plain(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with null for NaN, however deep."""
    return {
        name: plain(value)
        if isinstance(value, Mapping)
        else None
        if isinstance(value, float) and math.isnan(value)
        else value
        for name, value in document.items()
    }


def _auc(y: Floats, p: Floats, lead: npt.NDArray[np.intp]) -> Estimate:
    """DeLong's components (1988), summed by lead (Obuchowski, 1997)."""
    hit = y > 0.5
    ones, zeros = int(hit.sum()), int((~hit).sum())
    if not ones or not zeros:
        return Estimate(np.nan, np.nan, np.nan, np.nan)
    rank = rankdata(p)
    part = np.empty(len(y))
    part[hit] = (rank[hit] - rankdata(p[hit])) / zeros
    part[~hit] = 1.0 - (rank[~hit] - rankdata(p[~hit])) / ones
    auc = float(part[hit].mean())
    error = _clustered(np.where(hit, (part - auc) / ones, (part - auc) / zeros), lead)
    return Estimate(auc, error, max(0.0, auc - _Z90 * error), min(1.0, auc + _Z90 * error))


def _ratio(y: Floats, p: Floats, lead: npt.NDArray[np.intp]) -> Estimate:
    observed, expected = float(y.sum()), float(p.sum())
    if observed == 0.0 or expected == 0.0:
        return Estimate(observed / expected if expected else np.nan, np.nan, np.nan, np.nan)
    ratio = observed / expected
    error = _clustered(y - ratio * p, lead) / observed
    return Estimate(ratio, error, ratio * float(np.exp(-_Z90 * error)), ratio * float(np.exp(_Z90 * error)))


def _versus(y: Floats, p: Floats, lead: npt.NDArray[np.intp], known_rate: float) -> Estimate:
    gap = row_losses(y, p) - row_losses(y, np.full(len(y), known_rate))
    mean = float(gap.mean())
    error = _clustered(gap - mean, lead) / len(gap)
    return Estimate(mean, error, mean - _Z90 * error, mean + _Z90 * error)


def _clustered(parts: Floats, lead: npt.NDArray[np.intp]) -> float:
    sums = np.bincount(lead, weights=parts)
    return float((sums @ sums * (len(sums) / max(len(sums) - 1, 1))) ** 0.5)
