"""The logistic function in NumPy alone: what a score needs should not load a second library of functions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def expit(z: npt.ArrayLike) -> Floats:
    """Return ``1 / (1 + exp(-z))`` of log-odds that lie within +-700, beyond which the exponential overflows."""
    result: Floats = 1.0 / (1.0 + np.exp(-np.asarray(z, dtype=np.float64)))
    return result
