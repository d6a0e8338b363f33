"""How good predicted probabilities are, and whether a model may be used at all."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

Floats = npt.NDArray[np.float64]

ECE_BINS = 15
_TINY = 1e-15


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
    """Whether a model passed; ``reasons`` are plain sentences with the numbers, one per check."""

    validated: bool
    reasons: tuple[str, ...]

    @property
    def name(self) -> str:
        """``validated`` or ``rejected``."""
        return "validated" if self.validated else "rejected"

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document."""
        return {"verdict": self.name, "reasons": list(self.reasons)}


def evaluate(y: npt.ArrayLike, p: npt.ArrayLike) -> Metrics:
    """Return the metrics of probabilities ``p`` (n,) against outcomes ``y`` (n,) of 0/1.

    Raises ValueError for empty or unequal input, outcomes other than 0/1 and probabilities outside [0, 1].
    """
    outcome, probability = _checked(y, p)
    conversions = int(outcome.sum())
    both = 0 < conversions < len(outcome)
    table = calibration_table(outcome, probability)
    gap = (table["predicted"] - table["observed"]).abs() * table["leads"]
    rate = float(outcome.mean())
    captured = _conversions_in_top(outcome, probability, 0.10) / conversions if conversions else math.nan
    return Metrics(
        auc=float(roc_auc_score(outcome, probability)) if both else math.nan,
        pr_auc=float(average_precision_score(outcome, probability)) if conversions else math.nan,
        log_loss=float(row_losses(outcome, probability).mean()),
        brier=float(((probability - outcome) ** 2).mean()),
        ece=float(gap.sum() / len(outcome)),
        base_rate=rate,
        lift_at_10=captured * len(outcome) / _top(len(outcome), 0.10),
        capture_at_10=captured,
        n=len(outcome),
        conversions=conversions,
    )


def judge(
    y: npt.ArrayLike, p: npt.ArrayLike, *, known_base_rate: float, champion_p: npt.ArrayLike | None = None
) -> Verdict:
    """Judge a model on a test period it has not seen.

    Rejected when its log-loss is not better than always answering ``known_base_rate`` (the rate known before the test
    period; the period's own rate would be hindsight), when its AUC is at most .5, or when it is worse than the champion
    (``champion_p`` (n,), same rows) by more than one standard error of the paired per-row differences in log-loss.
    """
    outcome, probability = _checked(y, p)
    if not 0.0 < known_base_rate < 1.0:
        raise ValueError(f"known_base_rate must lie strictly between 0 and 1, not {known_base_rate}")
    losses = row_losses(outcome, probability)
    loss, constant = (
        float(losses.mean()),
        float(row_losses(outcome, np.full(len(outcome), known_base_rate)).mean()),
    )
    checks: list[tuple[bool, str]] = []
    better = loss < constant
    relation = "better" if better else "not better"
    checks.append(
        (
            better,
            f"Log-loss {loss:.4f} is {relation} than {constant:.4f}, that of the known rate {known_base_rate:.2%}.",
        )
    )
    auc = evaluate(outcome, probability).auc
    if math.isnan(auc):
        checks.append(
            (False, "The test period holds only one kind of outcome, so the ranking cannot be judged.")
        )
    else:
        ranks = auc > 0.5
        checks.append(
            (ranks, f"AUC {auc:.3f} is {'above' if ranks else 'not above'} 0.5, the value of a random order.")
        )
    if champion_p is not None:
        _, champion = _checked(outcome, champion_p)
        difference = losses - row_losses(outcome, champion)
        worse = float(difference.mean())
        error = float(difference.std(ddof=1)) / math.sqrt(len(difference)) if len(difference) > 1 else 0.0
        holds = worse <= error
        relation = "lower than" if worse < 0 else "higher than" if worse > 0 else "away from"
        checks.append(
            (
                holds,
                f"Log-loss is {abs(worse):.4f} {relation} the champion's on the same rows (standard error "
                f"{error:.4f})" + ("." if holds else ", worse by more than one standard error."),
            )
        )
    return Verdict(all(passed for passed, _ in checks), tuple(reason for _, reason in checks))


def calibration_table(y: npt.ArrayLike, p: npt.ArrayLike, *, bins: int = ECE_BINS) -> pd.DataFrame:
    """Return predicted against observed rates in ``bins`` bins of equal count, lowest predictions first.

    Columns ``leads``, ``predicted`` (mean), ``observed`` (rate), ``low`` and ``high`` (90 % Wilson interval). Equal
    predictions are never split between bins, so the table does not depend on the order of rows.
    """
    outcome, probability = _checked(y, p)
    order = np.argsort(probability, kind="stable")
    ranked, hits = probability[order], outcome[order]
    edges = np.linspace(0, len(ranked), min(bins, len(ranked)) + 1).astype(int)[1:-1]
    starts = np.unique(np.concatenate([[0], np.searchsorted(ranked, ranked[edges], side="left")]))
    leads = np.diff(np.append(starts, len(ranked)))
    observed = np.add.reduceat(hits, starts) / leads
    low, high = _wilson(observed, leads)
    return pd.DataFrame(
        {
            "leads": leads,
            "predicted": np.add.reduceat(ranked, starts) / leads,
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
    outcome, probability = _checked(y, p)
    conversions = float(outcome.sum())
    shares = np.arange(1, steps + 1) / steps
    contacted = np.array([_top(len(outcome), s) / len(outcome) for s in shares])
    hits = np.array([_conversions_in_top(outcome, probability, s) for s in shares])
    captured = hits / conversions if conversions else np.full(steps, math.nan)
    return pd.DataFrame({"contacted": contacted, "captured": captured, "lift": captured / contacted})


def row_losses(y: npt.ArrayLike, p: npt.ArrayLike) -> Floats:
    """Return the log-loss of each row (n,), natural log."""
    outcome = np.asarray(y, dtype=np.float64)
    probability = np.clip(np.asarray(p, dtype=np.float64), _TINY, 1.0 - _TINY)
    result: Floats = -(outcome * np.log(probability) + (1.0 - outcome) * np.log1p(-probability))
    return result


def _checked(y: npt.ArrayLike, p: npt.ArrayLike) -> tuple[Floats, Floats]:
    outcome, probability = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    if outcome.ndim != 1 or outcome.shape != probability.shape or len(outcome) == 0:
        raise ValueError(
            f"need two non-empty rows of equal length, not shapes {outcome.shape}, {probability.shape}"
        )
    if not np.isin(outcome, (0.0, 1.0)).all():
        raise ValueError("outcomes must be 0 or 1; drop censored rows first")
    if not ((probability >= 0.0) & (probability <= 1.0)).all():
        raise ValueError("probabilities must lie in [0, 1]")
    return outcome, probability


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
