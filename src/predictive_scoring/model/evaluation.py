"""How good predicted probabilities are, and whether a model may be used at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from predictive_scoring.model.challenge import Challenge, Check, challenge
from predictive_scoring.model.rows import ECE_BINS, checked_rows, equal_bins, row_losses

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metrics:
    """Quality of n probabilities against outcomes. A metric that needs both classes is NaN when one is absent.

    ``pr_auc`` is average precision; ``log_loss`` natural log per row; ``ece`` the expected calibration error over 15
    equal-count bins; ``lift_at_10`` conversion rate of the top tenth over the base rate; ``capture_at_10`` the share
    of all conversions in the top tenth (ties at its edge counted in proportion).
    """

    auc: float
    pr_auc: float
    log_loss: float
    brier: float
    ece: float
    base_rate: float
    lift_at_10: float
    capture_at_10: float
    n: int
    conversions: int

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document; NaN becomes null."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Verdict:
    """Whether a model passed, the ``checks`` one by one, and the paired tests against the champion (``challenge``),
    where there was one."""

    checks: tuple[Check, ...]
    challenge: Challenge | None = None

    @property
    def validated(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """A plain sentence with the numbers for each check."""
        return tuple(check.sentence for check in self.checks)

    @property
    def name(self) -> str:
        """``validated`` or ``rejected``."""
        return "validated" if self.validated else "rejected"

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document."""
        return {"verdict": self.name, "reasons": list(self.reasons)}


def evaluate(y: npt.ArrayLike, p: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> Metrics:
    """Return the metrics of probabilities ``p`` (n,) against outcomes ``y`` (n,) of 0/1.

    ``weight`` (n,) are censoring weights of mean 1: an example stands for so many. ``n`` and ``conversions`` count
    examples all the same, and the bins and the top tenth are of examples.

    Raises ValueError for empty or unequal input, outcomes other than 0/1 and probabilities outside [0, 1].
    """
    outcome, probability = checked_rows(y, p)
    w = np.ones(len(outcome)) if weight is None else np.asarray(weight, dtype=np.float64)
    conversions = int(outcome.sum())
    both = 0 < conversions < len(outcome)
    table = calibration_table(outcome, probability, weight=w)
    gap = (table["predicted"] - table["observed"]).abs() * table["weight"]
    rate = float(np.average(outcome, weights=w))
    captured = _conversions_in_top(outcome, probability, 0.10) / conversions if conversions else math.nan
    return Metrics(
        auc=float(roc_auc_score(outcome, probability, sample_weight=w)) if both else math.nan,
        pr_auc=float(average_precision_score(outcome, probability, sample_weight=w))
        if conversions
        else math.nan,
        log_loss=float(np.average(row_losses(outcome, probability), weights=w)),
        brier=float(np.average((probability - outcome) ** 2, weights=w)),
        ece=float(gap.sum() / w.sum()),
        base_rate=rate,
        lift_at_10=captured * len(outcome) / _top(len(outcome), 0.10),
        capture_at_10=captured,
        n=len(outcome),
        conversions=conversions,
    )


def judge(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    *,
    known_base_rate: float,
    champion_p: npt.ArrayLike | None = None,
    leads: npt.ArrayLike | None = None,
    segments: Mapping[str, npt.ArrayLike] | None = None,
    weight: npt.ArrayLike | None = None,
) -> Verdict:
    """Judge a model on rows it has not seen: outcomes ``y`` (n,) of 0/1 and probabilities ``p`` (n,).

    Rejected when its log-loss is not better than always answering ``known_base_rate`` (the rate known before these
    rows; their own rate would be hindsight), when its AUC is at most .5, or when it has not earned the place of the
    champion (``champion_p`` (n,), same rows): see `model.challenge`, which also reads ``leads`` (n,), ``segments``
    (column -> levels (n,)) and ``weight`` (n,). Raises ValueError for impossible input.
    """
    outcome, probability = checked_rows(y, p)
    if not 0.0 < known_base_rate < 1.0:
        raise ValueError(f"known_base_rate must lie strictly between 0 and 1, not {known_base_rate}")
    w = np.ones(len(outcome)) if weight is None else np.asarray(weight, dtype=np.float64)
    loss, constant = (
        float(np.average(row_losses(outcome, answer), weights=w))
        for answer in (probability, np.full(len(outcome), known_base_rate))
    )
    better = loss < constant
    relation = "better" if better else "not better"
    told = f"Log-loss {loss:.4f} is {relation} than {constant:.4f}, that of the known rate {known_base_rate:.2%}."
    checks = [Check("base_rate", better, told)]
    if 0.0 < outcome.mean() < 1.0:
        auc = float(roc_auc_score(outcome, probability, sample_weight=w))
        ranks = auc > 0.5
        told = f"AUC {auc:.3f} is {'above' if ranks else 'not above'} 0.5, the value of a random order."
    else:
        ranks, told = False, "These rows hold only one kind of outcome, so the ranking cannot be judged."
    checks.append(Check("ranking", ranks, told))
    if champion_p is None:
        return Verdict(tuple(checks))
    against = challenge(outcome, probability, champion_p, leads=leads, segments=segments, weight=w)
    return Verdict((*checks, *against.checks), against)


def calibration_table(
    y: npt.ArrayLike, p: npt.ArrayLike, *, bins: int = ECE_BINS, weight: npt.ArrayLike | None = None
) -> pd.DataFrame:
    """Return predicted against observed rates in ``bins`` bins of equal count, lowest predictions first.

    Columns ``leads``, ``weight`` (of all of them), ``predicted`` (mean), ``observed`` (rate), ``low`` and ``high``
    (90 % Wilson interval). Equal predictions are never split between bins, so the order of rows does not matter.
    """
    outcome, probability = checked_rows(y, p)
    w = np.ones(len(outcome)) if weight is None else np.asarray(weight, dtype=np.float64)
    order = np.argsort(probability, kind="stable")
    ranked, hits, w = probability[order], outcome[order], w[order]
    starts = equal_bins(ranked, bins)
    leads = np.diff(np.append(starts, len(ranked)))
    weights = np.add.reduceat(w, starts)
    observed = np.add.reduceat(hits * w, starts) / weights
    low, high = _wilson(observed, leads)
    return pd.DataFrame(
        {
            "leads": leads,
            "weight": weights,
            "predicted": np.add.reduceat(ranked * w, starts) / weights,
            "observed": observed,
            "low": low,
            "high": high,
        }
    )


def gain_table(y: npt.ArrayLike, p: npt.ArrayLike, *, steps: int = 20) -> pd.DataFrame:
    """Return what contacting the best leads first yields, at ``steps`` equal shares of the leads.

    Columns ``contacted`` (share of leads), ``captured`` (share of conversions) and ``lift`` (their ratio). NaN without
    any conversion.
    """
    outcome, probability = checked_rows(y, p)
    conversions = float(outcome.sum())
    shares = np.arange(1, steps + 1) / steps
    contacted = np.array([_top(len(outcome), s) / len(outcome) for s in shares])
    hits = np.array([_conversions_in_top(outcome, probability, s) for s in shares])
    captured = hits / conversions if conversions else np.full(steps, math.nan)
    return pd.DataFrame({"contacted": contacted, "captured": captured, "lift": captured / contacted})


def _top(n: int, share: float) -> int:
    # Rounding before the ceiling: 0.15 * 20 is 3.0000000000000004 in floating point and must stay 3.
    return max(1, math.ceil(round(share * n, 9)))


def _conversions_in_top(outcome: Floats, probability: Floats, share: float) -> float:
    count = _top(len(outcome), share)
    edge = np.partition(probability, len(probability) - count)[len(probability) - count]
    above, tied = probability > edge, probability == edge
    taken = (count - int(above.sum())) / int(tied.sum())
    return float(outcome[above].sum() + taken * outcome[tied].sum())


def _wilson(rate: Floats, n: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    z = 1.6448536269514722  # the 95 % normal quantile: a two-sided 90 % interval (Wilson, 1927)
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)
