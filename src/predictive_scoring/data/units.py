"""Changes of unit: a size that jumps by a round factor from one month to the next and stays there."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

FACTORS = (10.0, 60.0, 100.0, 1000.0, 3600.0)
"""Decimals, minutes, cents, thousands (milliseconds), hours."""
NEAR, STEADY = math.log(1.35), math.log(2.0)
FEWEST = 30


def unit_jump(month: pd.Series, mean_log: pd.Series, count: pd.Series) -> tuple[float, int] | None:
    """The factor (below 1 for a fall) and the month of a change of unit, or None.

    `mean_log` is the mean logarithm of the sizes in each month, ascending, of `count` values. Both sides of the jump
    must be steady within a factor of two, so that no season and no growth looks like it."""
    spoken = ((count >= FEWEST) & mean_log.notna()).to_numpy()
    months, logs = month.to_numpy()[spoken], mean_log.to_numpy(dtype=np.float64)[spoken]
    found: list[tuple[float, float, int]] = []
    for at in range(1, len(logs)):
        left, right = logs[:at], logs[at:]
        step = float(np.median(right) - np.median(left))
        # Its month may hold both units, so the first one after the jump need not be steady.
        settled = right[1:] if len(right) > 1 else right
        if max(np.ptp(left), np.ptp(settled)) > STEADY:
            continue
        for factor in FACTORS:
            if abs(abs(step) - math.log(factor)) <= NEAR:
                unrest = float(np.ptp(left) + np.ptp(right))
                found.append((unrest, factor if step > 0 else 1.0 / factor, int(months[at])))
    # Splits beside the true one pass too, with the jump inside one of their sides.
    return min(found)[1:] if found else None
