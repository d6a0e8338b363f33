"""Mending probabilities after the base rate has moved, without retraining: the ranking stays, the level is refitted.

When only the share of converting leads changes (prior shift: Saerens, Latinne and Decaestecker, 2002), the log-odds of
every lead are off by one and the same amount. :func:`prior_shift` estimates it from matured rows, :func:`recalibrated`
puts it into a calibration, and :func:`followed` answers what a calibration kept up to date would have said: each row
by a filter that has seen no outcome but those known when the row was scored.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from predictive_scoring.model.calibration import PlattCalibration
from predictive_scoring.model.platt import MIN_SLOPE, Prior, platt_newton

Floats = npt.NDArray[np.float64]

SHIFT_SD = 0.5
"""Prior standard deviation of a shift in log-odds: twenty rows move little, a thousand move freely."""
SLOPE_SD = 0.1
"""Prior standard deviation of a new slope about 1: a ranking rarely becomes stronger or weaker by a third."""

LEVEL_DRIFTS = (0.0, 0.1, 0.3, 1.0)
"""Rates at which :func:`followed` lets the level wander: standard deviation in log-odds over 1,000 rows."""
SLOPE_DRIFTS = (0.0, 0.1)
"""The same for the slope."""
START = (0.3, 0.15)
"""Standard deviations of level and slope before the first outcome is known."""
WIDEST = (1.0, 0.3)
"""Largest standard deviations: after a long wait for outcomes, one surprise must not throw the level far off."""
FORGETTING = 0.999
"""What a row's log-loss counts one row later when the rates of drift are weighed against each other."""


def prior_shift(
    logit: npt.ArrayLike, y: npt.ArrayLike, weight: npt.ArrayLike | None = None, *, sd: float = SHIFT_SD
) -> float:
    """Return the shift d (log-odds) of log-odds (n,) that fits outcomes (n,) of 0/1 best, d ~ Normal(0, sd^2).

    Newton's method on the penalised likelihood of ``y ~ Bernoulli(sigmoid(logit + d))``. With many rows the mean of
    the shifted probabilities equals the observed rate; without rows d is 0.
    """
    z, outcome = np.asarray(logit, dtype=np.float64), np.asarray(y, dtype=np.float64)
    w = np.ones(len(z)) if weight is None else np.asarray(weight, dtype=np.float64)
    return _shift(z, outcome, w, 0.0, sd)


def shift_error(
    logit: npt.ArrayLike,
    y: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    groups: npt.ArrayLike | None = None,
    sd: float = SHIFT_SD,
) -> float:
    """Return the standard error of :func:`prior_shift` (log-odds).

    The larger of the likelihood's own and one that takes each lead (``groups`` (n,)) as a single observation (the
    sandwich: White, 1982), because several cutoffs of one lead are not independent.
    """
    z, outcome = np.asarray(logit, dtype=np.float64), np.asarray(y, dtype=np.float64)
    w = np.ones(len(z)) if weight is None else np.asarray(weight, dtype=np.float64)
    p = expit(z + _shift(z, outcome, w, 0.0, sd))
    precision = float((w * p * (1.0 - p)).sum()) + 1.0 / sd**2
    score = w * (outcome - p)
    if groups is not None:
        score = np.bincount(np.unique(np.asarray(groups), return_inverse=True)[1], weights=score)
    clustered = float(score @ score) + 1.0 / sd**2
    return float(max(precision**-0.5, clustered**0.5 / precision))


def recalibrated(
    calibration: PlattCalibration,
    margin: npt.ArrayLike,
    y: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    groups: npt.ArrayLike | None = None,
    slope: bool = False,
    seed: int = 0,
) -> PlattCalibration:
    """Return ``calibration`` with its level refitted on matured rows: raw margins (n,) and outcomes (n,) of 0/1.

    With ``slope`` the slope is refitted too, held close to the present one (:data:`SLOPE_SD`). Every replicate is
    refitted on a bootstrap by lead (``groups`` (n,) are lead ids) with a drawn prior, as in ``fit_platt``: the range
    then holds the uncertainty of the new level and the old one of the slope. Without rows nothing changes.
    """
    m, outcome = np.asarray(margin, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(m) == 0:
        return calibration
    w = np.ones(len(m)) if weight is None else np.asarray(weight, dtype=np.float64)
    lead = np.arange(len(m)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    leads = int(lead.max()) + 1
    random = np.random.default_rng(seed)

    def moved(pair: tuple[float, float], weights: Floats, level: float) -> tuple[float, float]:
        z = pair[0] * m + pair[1]
        if not slope or not weights.any():
            return pair[0], pair[1] + _shift(z, outcome, weights, level, SHIFT_SD)
        prior: Prior = (1.0, SLOPE_SD, level, SHIFT_SD)
        a, b = platt_newton(z, outcome, weights, prior=prior)
        return max(a * pair[0], MIN_SLOPE), a * pair[1] + b

    fitted = moved((calibration.slope, calibration.intercept), w, 0.0)
    pairs = []
    for pair in calibration.replicates:
        drawn = np.bincount(random.integers(0, leads, leads), minlength=leads)[lead]
        pairs.append(moved(pair, w * drawn, float(random.normal(0.0, SHIFT_SD))))
    return replace(PlattCalibration(*fitted), replicates=tuple(pairs))


def known_after(times: npt.ArrayLike, known_at: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return how many rows later each outcome is known, for :func:`followed`.

    ``times`` (n,), sorted, is when each row was scored, ``known_at`` (n,) when its outcome was known (same unit): an
    outcome may be used from the first row on that was scored at ``known_at`` or later.
    """
    first = np.searchsorted(np.asarray(times), np.asarray(known_at), side="left")
    rows: npt.NDArray[np.int64] = first - np.arange(len(first))
    return rows


def followed(logit: npt.ArrayLike, y: npt.ArrayLike, known_after: int | npt.ArrayLike) -> Floats:
    """Return log-odds (n,) of rows in time order, each recalibrated by the outcomes known before it was scored.

    ``known_after`` says how many rows later a row's outcome is known: one number, or one per row (n,), at least 1.
    The outcome of row i is used for row ``i + known_after[i]`` and later ones only.

    ``z' = z + level + slope (z - centre)`` where level and slope wander: dynamic logistic regression by a Laplace step
    per outcome (McCormick, Raftery, Madigan and Burd, 2012). Several rates of drift, no drift and no recalibration at
    all run side by side; the answer is their average, weighed by the exponentially forgotten log-loss of what each
    answered for the rows whose outcome is known by then. ``centre`` is the mean of all log-odds scored so far.

    Raises ValueError for unequal lengths or a ``known_after`` below 1.
    """
    z, outcome = np.asarray(logit, dtype=np.float64), np.asarray(y, dtype=np.float64)
    n = len(z)
    wait = np.broadcast_to(np.asarray(known_after, dtype=np.int64), z.shape)
    if outcome.shape != z.shape:
        raise ValueError(f"need one outcome per row, not shapes {z.shape} and {outcome.shape}")
    if n and wait.min() < 1:
        raise ValueError("an outcome is known one row later at the earliest")
    usable = np.arange(n) + wait
    order = np.argsort(usable, kind="stable")
    bank = _Filters.fresh()
    answers = np.empty((n, bank.count))
    result = np.empty(n)
    centres = np.cumsum(z) / np.arange(1, n + 1)
    position = 0
    for row in range(n):
        while position < n and usable[order[position]] <= row:
            known = order[position]
            bank.learn(z[known], centres[known], outcome[known], answers[known])
            position += 1
        answers[row] = bank.answer(z[row], centres[row])
        result[row] = bank.average(answers[row])
    return result


class _Filters:
    """Dynamic logistic regressions side by side, one per rate of drift; the first one never moves."""

    def __init__(self, noise: Floats, state: Floats, spread: Floats, score: Floats) -> None:
        self._noise, self._state, self._spread, self._score = noise, state, spread, score
        self._widest = np.array(WIDEST) ** 2

    @classmethod
    def fresh(cls) -> _Filters:
        drifts = np.array([(0.0, 0.0), *product(LEVEL_DRIFTS, SLOPE_DRIFTS)])
        spread = np.zeros((len(drifts), 2, 2))
        spread[1:, 0, 0], spread[1:, 1, 1] = START[0] ** 2, START[1] ** 2
        return cls(drifts**2 / 1000.0, np.zeros((len(drifts), 2)), spread, np.zeros(len(drifts)))

    @property
    def count(self) -> int:
        return len(self._noise)

    def learn(self, z: float, centre: float, y: float, answered: Floats) -> None:
        """One outcome: judge what was answered for it, then move every filter."""
        self._score = FORGETTING * self._score - np.logaddexp(0.0, -answered if y > 0.5 else answered)
        for part in (0, 1):
            variance = self._spread[:, part, part]
            self._spread[:, part, part] = np.minimum(variance + self._noise[:, part], self._widest[part])
        x = np.array([1.0, z - centre])
        p = expit(z + self._state @ x)
        curvature = p * (1.0 - p)
        gain = self._spread @ x
        scale = 1.0 / (1.0 + curvature * (gain @ x))
        self._state = self._state + (scale * (y - p))[:, None] * gain
        self._spread = self._spread - (curvature * scale)[:, None, None] * gain[:, :, None] * gain[:, None, :]
        self._state[:, 1] = np.maximum(self._state[:, 1], MIN_SLOPE - 1.0)

    def answer(self, z: float, centre: float) -> Floats:
        """Log-odds of each filter."""
        result: Floats = z + self._state[:, 0] + self._state[:, 1] * (z - centre)
        return result

    def average(self, answers: Floats) -> float:
        """The answers' average as probabilities, in log-odds."""
        weight = np.exp(self._score - self._score.max())
        p = float(np.clip(weight @ expit(answers) / weight.sum(), 1e-12, 1.0 - 1e-12))
        return float(logit(p))


def _shift(z: Floats, y: Floats, w: Floats, expected: float, sd: float) -> float:
    shift, precision = expected, 1.0 / sd**2
    for _ in range(50):
        p = expit(z + shift)
        gradient = float((w * (p - y)).sum()) + precision * (shift - expected)
        step = gradient / (float((w * p * (1.0 - p)).sum()) + precision)
        # Far from the solution p (1 - p) underrates the curvature; bounded steps cannot run away.
        shift -= float(np.clip(step, -2.0, 2.0))
        if abs(step) <= 1e-12:
            break
    return float(shift)
