"""What working the best leads first would have brought, with a range from drawing the leads again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from predictive_scoring.model.rows import checked_rows

Floats = npt.NDArray[np.float64]

LEVEL = 0.90


def worked_table(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    *,
    leads: npt.ArrayLike | None = None,
    win: float | None = None,
    cost: float = 0.0,
    steps: int = 40,
    replicates: int = 200,
    seed: int,
) -> pd.DataFrame:
    """Return what the best rows brought at ``steps`` equal shares of all n rows.

    Columns ``worked`` (share of rows), ``value``, ``low`` and ``high`` (90 % band). The value is money,
    ``win`` (worth of a conversion) x conversions - ``cost`` x rows, or without ``win`` the conversions per worked row.
    Rows of equal probability count in proportion, so their order does not matter. The band is a percentile
    bootstrap that draws ``leads`` (n,) (default: rows), because several rows of one lead are not independent. Raises
    ValueError as :func:`checked_rows`.
    """
    outcome, probability = checked_rows(y, p)
    n = len(outcome)
    order = np.argsort(-probability, kind="stable")
    ranked, hits = probability[order], outcome[order]
    lead = np.arange(n) if leads is None else np.unique(np.asarray(leads), return_inverse=True)[1][order]
    # The last row of each run of equal probabilities: between two of them rows count in proportion.
    ends = np.append(np.flatnonzero(np.diff(ranked)), n - 1)
    shares = np.arange(1, steps + 1) / steps

    def brought(weight: Floats) -> Floats:
        rows = np.concatenate([[0.0], np.cumsum(weight)[ends]])
        found = np.concatenate([[0.0], np.cumsum(weight * hits)[ends]])
        wanted = shares * rows[-1]
        conversions = np.interp(wanted, rows, found)
        result: Floats = conversions / wanted if win is None else win * conversions - cost * wanted
        # A bootstrap draws about as many rows as there are; money is told for as many as there are.
        return result if win is None else result * (n / rows[-1])

    random = np.random.default_rng(seed)
    number = int(lead.max()) + 1
    drawn = [
        brought(np.bincount(random.integers(0, number, number), minlength=number)[lead].astype(np.float64))
        for _ in range(replicates)
    ]
    value = brought(np.ones(n))
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
    return pd.DataFrame(
        {
            "worked": shares,
            "value": value,
            "low": np.minimum(low, value),
            "high": np.maximum(high, value),
        }
    )
