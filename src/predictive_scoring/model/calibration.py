"""From raw log-odds to a probability with a range: Platt calibration fitted on out-of-fold margins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from predictive_scoring.errors import TrainingImpossible
from predictive_scoring.model.logistic import expit
from predictive_scoring.model.platt import MIN_SLOPE, platt_newton

Floats = npt.NDArray[np.float64]

LOGIT_LIMIT = 15.0
"""Calibrated log-odds stay within +-15 (1 in 3 million): beyond, ``logit(sigmoid(z)) == z`` is lost to rounding."""
INTERVAL_LEVEL = 0.90
SPREAD = (0.15, 0.25)
"""Prior standard deviations of slope and level in the bootstrap: wider than the prior of the fit, so that no range is
narrow by assumption (simulated worlds with 40 and 120 conversions, nominal 90 %: the range of a whole model covers .92
and .90 with the prior of the fit, .95 and .95 with this one, .99 and .98 with 0.25 and 0.4)."""


@dataclass(frozen=True)
class PlattCalibration:
    """``logit = slope * margin + intercept``, bounded to +-LOGIT_LIMIT; slope > 0, so ranking never changes.

    ``replicates`` are (slope, intercept) pairs of a bootstrap by lead; they make the interval.
    """

    slope: float
    intercept: float
    replicates: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if not self.slope > 0.0:
            raise ValueError(f"the slope of a calibration must be positive, not {self.slope}")

    @cached_property
    def _slopes(self) -> Floats:
        return np.array([slope for slope, _ in self.replicates], dtype=np.float64)

    @cached_property
    def _intercepts(self) -> Floats:
        return np.array([intercept for _, intercept in self.replicates], dtype=np.float64)

    @cached_property
    def _tails(self) -> tuple[npt.NDArray[np.intp], Floats]:
        """Of the two quantiles of the sorted replicates: the places below and above each (4,), and how far between."""
        tail = (1.0 - INTERVAL_LEVEL) / 2.0
        place = np.array([tail, 1.0 - tail]) * (len(self.replicates) - 1)
        below = np.floor(place).astype(np.intp)
        return np.concatenate([below, np.ceil(place).astype(np.intp)]), place - below

    @cached_property
    def _moments(self) -> tuple[float, float, float]:
        """Variances of slope and intercept of the replicates, and their covariance."""
        spread = np.cov(self._slopes, self._intercepts)
        return float(spread[0, 0]), float(spread[1, 1]), float(spread[0, 1])

    def logit(self, margin: npt.ArrayLike) -> Floats:
        """Return calibrated log-odds (n,) of raw margins (n,)."""
        z = self.slope * np.asarray(margin, dtype=np.float64) + self.intercept
        result: Floats = np.minimum(np.maximum(z, -LOGIT_LIMIT), LOGIT_LIMIT)
        return result

    def probability(self, margin: npt.ArrayLike) -> Floats:
        """Return calibrated probabilities (n,) of raw margins (n,)."""
        return expit(self.logit(margin))

    def interval(self, margin: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return (low, high), each (n,): a 90 % range for the conversion rate of leads with this margin.

        It is about "leads with this score", never about one lead. It always contains ``probability(margin)``.
        """
        m = np.asarray(margin, dtype=np.float64)
        return self.interval_about(m, self.probability(m))

    def interval_about(self, m: Floats, p: Floats) -> tuple[Floats, Floats]:
        """Return :meth:`interval` of margins whose :meth:`probability` is at hand."""
        if not self.replicates:
            return p.copy(), p.copy()
        z = m[..., None] * self._slopes + self._intercepts
        z.sort(axis=-1)
        places, parts = self._tails
        # The limit keeps the order: these are the quantiles of the limited replicates.
        found = np.minimum(np.maximum(z.take(places, axis=-1), -LOGIT_LIMIT), LOGIT_LIMIT)
        tails = expit(found[..., :2] + parts * (found[..., 2:] - found[..., :2]))
        low, high = tails[..., 0], tails[..., 1]
        return np.minimum(low, p), np.maximum(high, p)

    def effective_sample_size(self, margin: npt.ArrayLike) -> Floats:
        """Return, per margin (n,), how many independent leads' observed rate would be as uncertain as the probability.

        ``1 / (p (1 - p) var(z))``: a rate p of N leads has the variance ``1 / (N p (1 - p))`` in log-odds, and z are
        the replicates. NaN without replicates.
        """
        m = np.asarray(margin, dtype=np.float64)
        return self.size_about(m, self.probability(m))

    def size_about(self, m: Floats, p: Floats) -> Floats:
        """Return :meth:`effective_sample_size` of margins whose :meth:`probability` is at hand."""
        if len(self.replicates) < 2:
            return np.full(m.shape, np.nan)
        of_slope, of_intercept, together = self._moments
        variance = of_slope * m * m + 2.0 * together * m + of_intercept
        result: Floats = 1.0 / (p * (1.0 - p) * np.maximum(variance, 1e-12))
        return result

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document; floats survive a round trip exactly."""
        return {
            "slope": self.slope,
            "intercept": self.intercept,
            "replicates": [list(pair) for pair in self.replicates],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> PlattCalibration:
        """Rebuild from :meth:`to_document`."""
        pairs = tuple((float(a), float(b)) for a, b in document["replicates"])
        return cls(float(document["slope"]), float(document["intercept"]), pairs)


def fit_platt(
    margin: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    groups: npt.ArrayLike | None = None,
    seed: int,
    replicates: int = 200,
    weight: npt.ArrayLike | None = None,
) -> PlattCalibration:
    """Fit the calibration on out-of-fold margins (n,) and outcomes (n,) of 0/1.

    ``groups`` (n,) are lead ids: the bootstrap draws leads, because several cutoffs of one lead are not independent.
    Raises TrainingImpossible if ``y`` holds fewer than two classes or a margin is not finite.
    """
    m, outcome = np.asarray(margin, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(np.unique(outcome)) < 2:
        raise TrainingImpossible(
            what=f"all {len(outcome)} rows have the same outcome",
            where="calibration rows",
            remedy="use a longer calibration period so that both converted and unconverted leads occur",
        )
    if not np.isfinite(m).all():
        raise TrainingImpossible(
            what="a margin is not finite",
            where="calibration rows",
            remedy="report this: margins are always finite",
        )
    w = np.ones(len(m)) if weight is None else np.asarray(weight, dtype=np.float64)
    fitted = platt_newton(m, outcome, w)
    lead = np.arange(len(m)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    leads = int(lead.max()) + 1
    random = np.random.default_rng(seed)
    drawn_fits = np.empty((replicates, 2))
    for b in range(replicates):
        drawn = np.bincount(random.integers(0, leads, leads), minlength=leads)[lead]
        # A drawn prior: where the data say little, the spread must come from it instead of vanishing.
        prior = (random.normal(1.0, SPREAD[0]), SPREAD[0], random.normal(0.0, SPREAD[1]), SPREAD[1])
        drawn_fits[b] = platt_newton(m, outcome, w * drawn, start=fitted, prior=prior)
    return replace(PlattCalibration(*fitted), replicates=_about(fitted, drawn_fits, float(m.mean())))


def _about(fitted: tuple[float, float], drawn: Floats, centre: float) -> tuple[tuple[float, float], ...]:
    """The drawn (slope, intercept) pairs (B, 2) moved so that slope and level at ``centre`` average to the fit's.

    The wider prior of the draws would otherwise put the range about another fit than the one that is told.
    """
    if len(drawn) == 0:
        return ()
    level = drawn[:, 0] * centre + drawn[:, 1]
    level += fitted[0] * centre + fitted[1] - level.mean()
    slope = np.maximum(drawn[:, 0] + fitted[0] - drawn[:, 0].mean(), MIN_SLOPE)
    return tuple((float(a), float(b)) for a, b in zip(slope, level - slope * centre, strict=True))
