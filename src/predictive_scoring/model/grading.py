"""From calibrated log-odds to what people read: score 1..99, percentile, grade A1..C3, readiness."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from predictive_scoring.model.logistic import expit
from predictive_scoring.schema import REFERENCE_SCORE, SCORE_POINTS_PER_LOG_ODDS

Floats = npt.NDArray[np.float64]
Readiness = Literal["ready", "nurture"]

LOWEST, HIGHEST = 1, 99
HYSTERESIS = 0.10
"""A lead changes side only when it crosses the line by this share of it (METHODS section 1)."""


@dataclass(frozen=True)
class Grading:
    """How log-odds become a score, a grade and a readiness.

    ``reference_log_odds`` is the log-odds that scores 50 and stays across retrains. Cuts are (low, high) sums of
    contributions in log-odds. ``ready_probability`` is the line between nurture and ready; above 1 nobody is ready.
    ``score_shares`` (99,) is the share of reference leads at each score 1..99.
    """

    reference_log_odds: float
    fit_cuts: tuple[float, float]
    engagement_cuts: tuple[float, float]
    ready_probability: float
    score_shares: tuple[float, ...]

    def score(self, logit: float) -> int:
        """Return ``clip(round(50 + 10 log2(odds / reference odds)), 1, 99)``."""
        return int(self.scores(np.array([logit]))[0])

    def scores(self, logits: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return :meth:`score` of each of (n,) log-odds."""
        return _scores(np.asarray(logits, dtype=np.float64), self.reference_log_odds)

    def percentile(self, score: int) -> float:
        """Return the percentage of reference leads with a lower score, half of the equal ones counted."""
        return self._percentiles[min(max(int(score), LOWEST), HIGHEST) - LOWEST]

    @cached_property
    def _percentiles(self) -> tuple[float, ...]:
        return tuple(
            100.0 * (math.fsum(self.score_shares[:place]) + 0.5 * self.score_shares[place])
            for place in range(len(self.score_shares))
        )

    def grade(self, fit: float, engagement: float) -> str:
        """Return ``A1``..``C3`` of the contribution sums (log-odds) of who they are and of what they did."""
        return "CBA"[_third(fit, self.fit_cuts)] + "321"[_third(engagement, self.engagement_cuts)]

    def readiness(self, probability: float, previous: Readiness | None = None) -> Readiness:
        """Return the side of the line; with the ``previous`` side, a change needs a clear crossing (10 %)."""
        line = self.ready_probability
        if previous == "ready":
            line *= 1.0 - HYSTERESIS
        elif previous == "nurture":
            # A line close to 1 stays reachable.
            line = min(line * (1.0 + HYSTERESIS), max(line, 0.5 * (1.0 + line)))
        return "ready" if probability >= line else "nurture"

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document."""
        return {
            "reference_log_odds": self.reference_log_odds,
            "fit_cuts": list(self.fit_cuts),
            "engagement_cuts": list(self.engagement_cuts),
            "ready_probability": self.ready_probability,
            "score_shares": list(self.score_shares),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Grading:
        """Rebuild from :meth:`to_document`."""
        return cls(
            float(document["reference_log_odds"]),
            _pair(document["fit_cuts"]),
            _pair(document["engagement_cuts"]),
            float(document["ready_probability"]),
            tuple(float(v) for v in document["score_shares"]),
        )


def learn_grading(
    logit: npt.ArrayLike,
    fit: npt.ArrayLike,
    engagement: npt.ArrayLike,
    *,
    ready_share: float | None = None,
    ready_probability: float | None = None,
    reference_log_odds: float | None = None,
    fit_cuts: tuple[float, float] | None = None,
    engagement_cuts: tuple[float, float] | None = None,
) -> Grading:
    """Learn the grading from a reference population: calibrated log-odds (n,), and contribution sums (m,) of some rows.

    Exactly one of ``ready_share`` (capacity: share of the inflow sales can work, e.g. weekly slots x 90 / 7 over the
    90-day inflow) and ``ready_probability`` (value: :func:`break_even_probability`) draws the line. Unless given, the
    reference is the log-odds of the population's mean probability, and cuts are its 1/3 and 2/3 quantiles; a retrain
    passes the earlier ``reference_log_odds``. Raises ValueError for an empty population or an impossible line.
    """
    z = np.asarray(logit, dtype=np.float64)
    if len(z) == 0 or not np.isfinite(z).all():
        raise ValueError("the reference population must be non-empty with finite log-odds")
    if (ready_share is None) == (ready_probability is None):
        raise ValueError("give exactly one of ready_share (capacity) and ready_probability (value)")
    if ready_share is not None:
        ready_probability = capacity_probability(expit(z), ready_share)
    elif ready_probability is None or not ready_probability > 0.0:
        raise ValueError(f"ready_probability must be positive, not {ready_probability}")
    if reference_log_odds is None:
        mean = float(expit(z).mean())
        reference_log_odds = math.log(mean / (1.0 - mean))
    scores = _scores(z, reference_log_odds)
    shares = np.bincount(scores - LOWEST, minlength=HIGHEST - LOWEST + 1) / len(z)
    return Grading(
        reference_log_odds,
        _pair(fit_cuts) if fit_cuts is not None else _thirds(fit),
        _pair(engagement_cuts) if engagement_cuts is not None else _thirds(engagement),
        float(ready_probability),
        tuple(float(v) for v in shares),
    )


def capacity_probability(probability: npt.ArrayLike, ready_share: float) -> float:
    """Return the line that leaves the top ``ready_share`` of the population at or above it (ties included).

    A share that rounds to no lead at all gives 2.0: nobody is ready. Raises ValueError outside [0, 1].
    """
    if not 0.0 <= ready_share <= 1.0:
        raise ValueError(f"ready_share must lie in [0, 1], not {ready_share}")
    p = np.sort(np.asarray(probability, dtype=np.float64))[::-1]
    count = round(ready_share * len(p))
    return float(p[count - 1]) if count > 0 else 2.0


def break_even_probability(cost: float, win_rate: float, value: float) -> float:
    """Return ``p* = cost / (win_rate * value)`` (METHODS section 1): above it, working a lead pays.

    ``cost`` of working one lead and ``value`` of a won deal in one currency; ``win_rate`` is P(won | converted).
    Raises ValueError unless all are positive and ``win_rate <= 1``.
    """
    if not (cost > 0.0 and value > 0.0 and 0.0 < win_rate <= 1.0):
        raise ValueError(f"need cost > 0, value > 0, 0 < win_rate <= 1; got {cost}, {value}, {win_rate}")
    return cost / (win_rate * value)


def _scores(logits: Floats, reference: float) -> npt.NDArray[np.int64]:
    points = REFERENCE_SCORE + SCORE_POINTS_PER_LOG_ODDS * (logits - reference)
    return np.clip(np.rint(points), LOWEST, HIGHEST).astype(np.int64)


def _third(value: float, cuts: tuple[float, float]) -> int:
    # Strict on both sides: a population without any spread is all in the middle, not all at the top.
    return 2 if value > cuts[1] else 0 if value < cuts[0] else 1


def _thirds(values: npt.ArrayLike) -> tuple[float, float]:
    low, high = np.quantile(np.asarray(values, dtype=np.float64), [1.0 / 3.0, 2.0 / 3.0])
    return float(low), float(high)


def _pair(cuts: Any) -> tuple[float, float]:
    low, high = (float(v) for v in cuts)
    if not low <= high:
        raise ValueError(f"cuts must be in order (low, high), not {(low, high)}")
    return low, high
