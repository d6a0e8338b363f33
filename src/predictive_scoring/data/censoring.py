"""Labels of a short history: inverse-probability-of-censoring weights, and exposure where nothing has matured.

An example is followed from its cutoff to the last instant that is known of it. It converted after ``delay`` seconds, or
has not yet. Whoever has not converted and was not followed for a whole horizon is censored: neither a success nor a
failure. To wait for these examples throws away the newest history; to call them failures is wrong, and to keep only
those among them that did convert is more wrong still. Instead the censored ones are left out and the others stand for
them:

    kept: converted within the horizon, or followed for the whole horizon
    weight = 1 / G(min(delay, horizon)),     G(t) = share of the examples that were followed beyond t

(Robins and Rotnitzky 1992; van der Laan and Robins, "Unified Methods for Censored Longitudinal Data", 2003). All
follow-up times are known, so the Kaplan-Meier estimate of G is simply their empirical distribution. It is taken within
bands of the lead's age: in a young log a lead that is old at its cutoff was observed late, hence followed briefly, and
one G for all would mistake that for a difference between old and young leads.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

WEIGHT_CAP = 10.0
"""No example stands for more than ten; where it would have to, its band of age is left out."""
AGE_BANDS = 8
ROWS_OF_A_BAND = 200


def age_bands(age: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Band (n,) of each age by quantiles: at most eight, of 200 rows or more, equal ages together."""
    ages = np.asarray(age, dtype=np.float64)
    count = int(np.clip(len(ages) // ROWS_OF_A_BAND, 1, AGE_BANDS))
    borders: Floats = np.unique(np.quantile(ages, np.arange(1, count) / count)) if count > 1 else np.zeros(0)
    return np.searchsorted(borders, ages, side="right").astype(np.int64)


def censoring_weights(
    delay: npt.ArrayLike, followed: npt.ArrayLike, horizon: npt.ArrayLike, band: npt.ArrayLike | None = None
) -> Floats:
    """Weight (n,) of each example, of mean 1 over those kept; 0: censored.

    All in seconds from the cutoff: ``delay`` to the conversion (NaN without one, or before it is known), ``followed``
    how long the example was observed, ``horizon`` its label window. ``band`` (n,) are whole numbers; a band in which
    less than a tenth was followed for a whole horizon has weight 0 throughout."""
    d, f, h = (np.asarray(values, dtype=np.float64) for values in (delay, followed, horizon))
    bands = np.zeros(len(f), dtype=np.int64) if band is None else np.asarray(band, dtype=np.int64)
    weight = np.zeros(len(f))
    for one in np.unique(bands):
        rows = np.flatnonzero(bands == one)
        ordered = np.sort(f[rows])
        here, horizons = d[rows], h[rows]
        # A conversion at the very end of the follow-up is not seen any more; a horizon that ends there is.
        converted = here < np.minimum(horizons, f[rows])
        complete = f[rows] >= horizons
        beyond = len(rows) - np.searchsorted(ordered, np.where(converted, here, 0.0), side="right")
        reached = len(rows) - np.searchsorted(ordered, horizons, side="left")
        if (reached < len(rows) / WEIGHT_CAP).all():
            continue
        stands_for = len(rows) / np.maximum(np.where(converted, beyond, reached), 1)
        weight[rows] = np.where(converted | complete, np.minimum(stands_for, WEIGHT_CAP), 0.0)
    kept = weight > 0
    return weight / weight[kept].mean() if kept.any() else weight


def exposure_weights(delay: npt.ArrayLike, followed: npt.ArrayLike, horizon: npt.ArrayLike) -> Floats:
    """Weight (n,) of each example where hardly any was followed for a whole horizon: 1 for a conversion, else the share
    of the horizon that was watched. It assumes that conversions come evenly over the horizon, and serves a first
    estimate of their rate only."""
    d, f, h = (np.asarray(values, dtype=np.float64) for values in (delay, followed, horizon))
    return np.where(d < np.minimum(h, f), 1.0, np.clip(f / h, 0.0, 1.0))
