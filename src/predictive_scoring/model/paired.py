"""Two models on the same rows: the difference of a figure, and how sure it is when rows of one lead go together.

Everywhere ``y`` (n,) are outcomes of 0/1, ``challenger`` and ``champion`` (n,) figures or probabilities, ``code`` (n,)
whole numbers 0..G-1 that name each row's lead, ``weight`` (n,) how much a row counts. Differences are challenger minus
champion.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.stats import t

from predictive_scoring.model.rows import Floats, Whole, equal_bins

REPLICATES = 500


@dataclass(frozen=True)
class Difference:
    """One figure of both models, and how sure their difference is: a 90 % range from ``low`` to ``high``, and the
    one-sided p-values of "the challenger's is not lower" and "is not higher"."""

    challenger: float
    champion: float
    low: float
    high: float
    p_lower: float
    p_higher: float

    @property
    def difference(self) -> float:
        """Challenger minus champion."""
        return self.challenger - self.champion

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document; NaN becomes null."""
        return plain({**asdict(self), "difference": self.difference})


def paired_mean(challenger: Floats, champion: Floats, code: Whole, weight: Floats) -> Difference:
    """Means of two figures per row (n,) and the range of their difference, clustered by lead ``code`` (n,).

    Standard error ``sqrt(G/(G-1) sum_g (sum_(i in g) w_i (d_i - mean))^2) / sum w`` with d the paired differences and G
    the leads; Student's t with G - 1 degrees of freedom."""
    total = weight.sum()
    paired = challenger - champion
    influence = weight * (paired - (weight @ paired) / total) / total
    means = float(weight @ challenger / total), float(weight @ champion / total)
    # The mean of the paired differences, not the difference of two means, which would round otherwise.
    return _clustered(means, float(weight @ paired / total), influence, code)


def paired_auc(y: Floats, challenger: Floats, champion: Floats, code: Whole, weight: Floats) -> Difference:
    """AUC of both models and the range of their difference: DeLong's placements (1988), summed by lead as in Obuchowski
    (1997). NaN when one class is absent."""
    positive = y == 1.0
    masses = weight[positive].sum(), weight[~positive].sum()
    if min(masses) <= 0:
        return Difference(math.nan, math.nan, math.nan, math.nan, 1.0, 1.0)
    placed = [_placements(positive, p, weight) for p in (challenger, champion)]
    aucs = [float(weight[positive] @ part[positive] / masses[0]) for part in placed]
    paired = placed[0] - placed[1]
    difference = float(weight[positive] @ paired[positive] / masses[0])
    influence = weight * (paired - difference) / np.where(positive, masses[0], masses[1])
    return _clustered((aucs[0], aucs[1]), difference, influence, code)


def paired_calibration(
    y: Floats,
    challenger: Floats,
    champion: Floats,
    code: Whole,
    weight: Floats,
    *,
    seed: int,
    replicates: int = REPLICATES,
) -> tuple[Difference, Difference]:
    """Distance of the mean prediction from the rate, and ECE, of both models; ranges by drawing leads anew
    ``replicates`` times.

    With bins fixed, both are sums of residuals: ECE is ``sum_bins |sum w (p - y)| / sum w``."""
    number = int(code.max()) + 1
    residuals = []
    for p in (challenger, champion):
        order = np.argsort(p, kind="stable")
        starts = equal_bins(p[order])
        place = np.empty(len(p), dtype=np.int64)
        place[order] = np.searchsorted(starts, np.arange(len(p)), side="right") - 1
        residuals.append(csr_array((weight * (p - y), (code, place)), shape=(number, len(starts))))
    masses = np.bincount(code, weights=weight, minlength=number).astype(np.float64)
    drawn = np.random.default_rng(seed)
    rows = [_miscalibration(residuals, masses, np.ones((1, number)))]
    step = max(1, 4_000_000 // number)
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        # Counting drawn places is several times quicker than drawing multinomial counts.
        places = drawn.integers(0, number, (size, number)) + number * np.arange(size)[:, None]
        draws = np.bincount(places.ravel(), minlength=size * number).reshape(size, number).astype(np.float64)
        rows.append(_miscalibration(residuals, masses, draws))
    table = np.concatenate(rows)
    large, ece = (_bootstrapped(table[:, [column, column + 1]]) for column in (0, 2))
    return large, ece


def _clustered(figures: tuple[float, float], difference: float, influence: Floats, code: Whole) -> Difference:
    sums = np.bincount(code, weights=influence)
    clusters = len(sums)
    error = math.sqrt(clusters / (clusters - 1) * float(sums @ sums)) if clusters > 1 else math.inf
    if error == 0.0 or not math.isfinite(error):
        certain = error == 0.0
        low, high = (difference, difference) if certain else (-math.inf, math.inf)
        return Difference(
            *figures,
            low,
            high,
            float(not (certain and difference < 0)),
            float(not (certain and difference > 0)),
        )
    half = float(t.ppf(0.95, clusters - 1)) * error
    p_lower = float(t.cdf(difference / error, clusters - 1))
    return Difference(*figures, difference - half, difference + half, p_lower, 1.0 - p_lower)


def _placements(positive: npt.NDArray[np.bool_], p: Floats, weight: Floats) -> Floats:
    """Per row the share of the other class that it is on the right side of, ties counted half."""
    result = np.empty(len(p))
    for rows, others in ((positive, ~positive), (~positive, positive)):
        order = np.argsort(p[others], kind="stable")
        ranked = p[others][order]
        below = np.concatenate([[0.0], np.cumsum(weight[others][order])])
        left, right = (below[np.searchsorted(ranked, p[rows], side=side)] for side in ("left", "right"))
        share = 0.5 * (left + right) / below[-1]
        result[rows] = share if rows is positive else 1.0 - share
    return result


def _miscalibration(residuals: list[csr_array], masses: Floats, draws: Floats) -> Floats:
    """(draws, 4): distance of the mean of challenger and champion, ECE of both. ``draws`` counts each lead."""
    total = draws @ masses
    binned = [np.asarray((part.T @ draws.T).T) for part in residuals]
    figures = [np.abs(part.sum(axis=1)) for part in binned] + [np.abs(part).sum(axis=1) for part in binned]
    return np.column_stack(figures) / total[:, None]


def _bootstrapped(table: Floats) -> Difference:
    """A difference from the figures themselves (first row) and their replicates (further rows)."""
    drawn = table[1:, 0] - table[1:, 1]
    low, high = (float(bound) for bound in np.quantile(drawn, [0.05, 0.95]))
    counted = len(drawn) + 1
    return Difference(
        float(table[0, 0]),
        float(table[0, 1]),
        low,
        high,
        float((1 + (drawn >= 0).sum()) / counted),
        float((1 + (drawn <= 0).sum()) / counted),
    )


def plain(document: dict[str, Any]) -> dict[str, Any]:
    """The document with null for numbers that JSON does not know."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in document.items()
    }
