"""What the leak screen measures, as pure functions of values and outcome. One row per lead everywhere.

A missing cell is a level of its own: that a field is empty may tell the outcome as well as its value.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

FEWEST_OF_A_CLASS = 10
"""Rows of each class below which an AUC is luck."""
LEVEL_SHARE = 0.10
FOLDS = 5
PRIOR_ROWS = 5
"""Rows at the overall rate that every level starts with, so that rare levels stay near it."""

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


def lone_auc(values: pd.Series, kind: str, y: Flags) -> float:
    """AUC of one column alone, 0.5 where too few rows speak.

    Of a number the better of two readings: its value in its better direction over the rows that have one,
    and that it has one. Of a category the conversion rate of its level, counted in the other folds."""
    if not _enough(y):
        return 0.5
    if kind != "number":
        return _level_auc(values, y)
    filled = values.notna().to_numpy()
    readings = [_auc(filled.astype(np.float64), y)]
    if _enough(y[filled]):
        readings.append(_auc(values[filled].to_numpy(dtype=np.float64), y[filled]))
    return max(max(auc, 1.0 - auc) for auc in readings)


def near_pure(values: pd.Series, y: Flags, *, never: bool = True) -> tuple[str, ...]:
    """Values that a tenth of the rows share and that (nearly) always or, with `never`, never convert.

    Never: the 95 % Wilson interval lies below 2 % and below a fifth of the overall rate; always: above 95 % and
    above four fifths of the way from the overall rate to 1. At a base rate of 2 % a level at 1 % is honest."""
    base, evidence = float(y.mean()) if len(y) else 0.0, []
    code, unique = pd.factorize(values, use_na_sentinel=False)
    levels = unique.tolist()
    for level in np.flatnonzero(np.bincount(code, minlength=len(levels)) >= max(100, LEVEL_SHARE * len(y))):
        n, converted = int((code == level).sum()), int(y[code == level].sum())
        low, high = wilson(converted, n)
        never_converts = never and high <= min(0.02, 0.2 * base)
        if never_converts or low >= max(0.95, 1.0 - 0.2 * (1.0 - base)):
            value: object = levels[int(level)]
            # NaN is the value that differs from itself.
            spoken = "no value" if value is None or value != value else f"value {value}"
            evidence.append(f"of {n} rows with {spoken} {converted} converted (overall {base:.1%})")
    return tuple(evidence)


def outcome_gap(flag: Flags, y: Flags, stratum: Codes) -> tuple[float, float]:
    """How much more often the flag stands with a conversion than without, at equal stratum: (gap, z).

    Gap: Mantel-Haenszel risk difference; z: Mantel-Haenszel statistic without continuity correction. Both 0 where no
    stratum has both outcomes."""
    count = np.bincount(stratum)
    converted = np.bincount(stratum, weights=y, minlength=len(count))
    flagged = np.bincount(stratum, weights=flag, minlength=len(count))
    both = np.bincount(stratum, weights=flag & y, minlength=len(count))
    use = (converted > 0) & (converted < count) & (count > 1)
    n, n1, m, a = (part[use].astype(np.float64) for part in (count, converted, flagged, both))
    n0 = n - n1
    variance = float((n1 * n0 * m * (n - m) / (n * n * (n - 1))).sum())
    if variance <= 0:
        return 0.0, 0.0
    weight = n1 * n0 / n
    gap = float((weight * (a / n1 - (m - a) / n0)).sum() / weight.sum())
    return gap, float((a - n1 * m / n).sum() / np.sqrt(variance))


def cohorts(created: npt.ArrayLike, number: int = 10) -> Codes:
    """Strata of equal age: `number` groups of rows by order of their value, ties kept together."""
    values = np.asarray(created, dtype=np.float64)
    borders = np.unique(np.quantile(values, np.linspace(0, 1, number + 1)[1:-1])) if len(values) else values
    return np.searchsorted(borders, values, side="right").astype(np.int64)


def drop_costs(
    frame: pd.DataFrame, kinds: Mapping[str, str], y: Flags, candidates: tuple[str, ...]
) -> tuple[float, dict[str, float]]:
    """Out-of-fold AUC of a quick additive model of all columns, and how much of it each candidate alone is worth.

    The model: every column as the log-odds of its level (of a number: its tenth), estimated in the other folds, in a
    ridge regression. It is solved again without each candidate; nothing is read twice."""
    if not _enough(y) or frame.empty:
        return 0.5, {}
    names = list(frame.columns)
    coded = [_levels(frame[name], kinds[name]) for name in names]
    fold = np.arange(len(y)) % FOLDS
    scores = {name: np.zeros(len(y)) for name in ("", *candidates)}
    for held in range(FOLDS):
        rest = fold != held
        encoded = np.column_stack([_log_odds(code, size, y, rest) for code, size in coded])
        centre, spread = encoded[rest].mean(axis=0), encoded[rest].std(axis=0)
        encoded = (encoded - centre) / np.where(spread > 0, spread, 1.0)
        seen, target = encoded[rest], y[rest] - y[rest].mean()
        gram = seen.T @ seen / len(seen) + 0.01 * np.eye(len(names))
        moment = seen.T @ target / len(seen)
        for name, score in scores.items():
            keep = np.array([other != name for other in names])
            if keep.any():
                slope = np.linalg.solve(gram[np.ix_(keep, keep)], moment[keep])
                score[~rest] = encoded[~rest][:, keep] @ slope
    whole = _auc(scores[""], y)
    return whole, {name: whole - _auc(scores[name], y) for name in candidates}


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Score interval of a share (Wilson 1927, doi 10.1080/01621459.1927.10502953)."""
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return float(centre - half), float(centre + half)


def _enough(y: Flags) -> bool:
    return min(int(y.sum()), int((~y).sum())) >= FEWEST_OF_A_CLASS


def _auc(score: Floats, y: Flags) -> float:
    converted = int(y.sum())
    above = rankdata(score)[y].sum() - converted * (converted + 1) / 2
    return float(above / (converted * (len(y) - converted)))


def _level_auc(values: pd.Series, y: Flags) -> float:
    code, levels = pd.factorize(values, use_na_sentinel=False)
    fold, rate = np.arange(len(y)) % FOLDS, np.zeros(len(y))
    for held in range(FOLDS):
        # The same prior rate in all folds: one per fold would order the folds against their own outcomes.
        rate[fold == held] = _rates(code, len(levels), y, fold != held)[code[fold == held]]
    return _auc(rate, y)


def _rates(code: Codes, size: int, y: Flags, rest: Flags) -> Floats:
    converted = np.bincount(code[rest], weights=y[rest], minlength=size)
    seen = np.bincount(code[rest], minlength=size)
    rates: Floats = (converted + PRIOR_ROWS * y.mean()) / (seen + PRIOR_ROWS)
    return rates


def _log_odds(code: Codes, size: int, y: Flags, rest: Flags) -> Floats:
    rate = np.clip(_rates(code, size, y, rest), 1e-6, 1 - 1e-6)
    answer: Floats = np.log(rate / (1 - rate))[code]
    return answer


def _levels(values: pd.Series, kind: str) -> tuple[Codes, int]:
    """Level of each row and the number of levels; a number falls into tenths, missing apart."""
    if kind == "number":
        given = values.to_numpy(dtype=np.float64)
        filled = ~np.isnan(given)
        code = np.zeros(len(given), dtype=np.int64)
        code[filled] = 1 + cohorts(given[filled])
        return code, int(code.max(initial=0)) + 1
    code, levels = pd.factorize(values, use_na_sentinel=False)
    return code.astype(np.int64), len(levels)
