"""From encoded lead inputs to the design matrix of a linear model.

The inputs arrive as the encoded matrix of :mod:`predictive_scoring.model.columns`: one float column per
:class:`Column`, NaN = missing, a category as the integer code of its vocabulary (``len(vocabulary)`` = unseen).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from predictive_scoring.model.columns import Column

Floats = npt.NDArray[np.float64]

CLIP = 6.0
"""Standard deviations beyond which a number has no further effect: one absurd value cannot decide a score.

Wide on purpose: at 3, a column that drifts (an interest rate) saturates before the model can follow it (bank data in
date order: AUC .62 instead of .74 on the last fifth)."""
LOG_SKEWNESS = 2.0
"""Numbers at least this skewed enter as sign(x) log(1 + |x|) when that makes them less skewed."""
MISSING_FLAG_COUNT = 5
"""A missing flag needs this many missing (and present) training rows; fewer cannot teach a coefficient."""


@dataclass(frozen=True)
class NumberTransform:
    """How one numeric column enters: ``clip((t(x) - centre) / scale, -CLIP, CLIP)``, t = signed log1p or identity.

    ``fill`` is the standardised value of a missing number (0 = the training mean; the least favourable bound for a
    column with a declared direction) and ``flag`` says whether a 0/1 missing column follows the value.
    """

    log: bool
    centre: float
    scale: float
    fill: float
    flag: bool

    def apply(self, values: Floats) -> Floats:
        """Return standardised ``values`` (n,), NaN filled."""
        x = signed_log1p(values) if self.log else values
        # Clipping before dividing keeps 1e308 (and infinities) finite.
        x = np.clip(x, self.centre - CLIP * self.scale, self.centre + CLIP * self.scale)
        z = (x - self.centre) / self.scale
        return np.where(np.isnan(z), self.fill, z)


def signed_log1p(values: Floats) -> Floats:
    """Return ``sign(x) log(1 + |x|)``."""
    result: Floats = np.sign(values) * np.log1p(np.abs(values))
    return result


def _skewness(x: Floats) -> float:
    spread = float(x.std())
    return 0.0 if spread <= 0 else abs(float((((x - x.mean()) / spread) ** 3).mean()))


def _learn_number(values: Floats, direction: int) -> NumberTransform:
    present = np.isfinite(values)
    x = values[present]
    absent = int(len(values) - len(x))
    flag = absent >= MISSING_FLAG_COUNT and len(x) >= MISSING_FLAG_COUNT
    fill = -CLIP * direction
    if len(x) == 0:
        return NumberTransform(False, 0.0, 1.0, fill, flag)
    # Values past 1e100 would overflow the third moment; their logarithm says all a linear term can use.
    raw = _skewness(np.clip(x, -1e100, 1e100))
    log = raw >= LOG_SKEWNESS and _skewness(signed_log1p(x)) < raw
    t = signed_log1p(x) if log else np.clip(x, -1e100, 1e100)
    centre, scale = float(t.mean()), float(t.std())
    # A constant column has no scale; rounding noise (all values 0.1) must not pass for one.
    if scale <= 1e-9 * max(1.0, abs(centre)):
        scale = 1.0
    return NumberTransform(log, centre, scale, fill, flag)


def width(column: Column, transform: NumberTransform | None) -> int:
    """Return how many design columns the column has."""
    return len(column.vocabulary) + 1 if transform is None else 1 + int(transform.flag)


def design_matrix(
    encoded: Floats, columns: Sequence[Column], transforms: Sequence[NumberTransform | None]
) -> Floats:
    """Return the design (n, d): per number its value [and missing flag], per category one-hot levels and missing.

    An unseen category is all zeros, which under ridge is the unweighted mean of its levels.
    """
    parts: list[Floats] = []
    for j, (column, transform) in enumerate(zip(columns, transforms, strict=True)):
        values = encoded[:, j]
        missing = np.isnan(values)
        if transform is None:
            codes = np.arange(len(column.vocabulary), dtype=np.float64)
            parts += [(values[:, None] == codes).astype(np.float64), missing[:, None].astype(np.float64)]
            continue
        parts.append(transform.apply(values)[:, None])
        if transform.flag:
            parts.append(missing[:, None].astype(np.float64))
    return np.hstack(parts) if parts else np.zeros((len(encoded), 0))


def learn_transforms(encoded: Floats, columns: Sequence[Column]) -> tuple[NumberTransform | None, ...]:
    """Return one transform per column (``None`` for a category), learned on the encoded rows (n, k)."""
    return tuple(
        _learn_number(encoded[:, j], column.direction) if column.kind == "number" else None
        for j, column in enumerate(columns)
    )


def unfitted_transforms(columns: Sequence[Column]) -> tuple[NumberTransform | None, ...]:
    """Return transforms that read every column without having seen a row, for a part whose coefficients are all 0."""
    return tuple(
        NumberTransform(False, 0.0, 1.0, -CLIP * c.direction, False) if c.kind == "number" else None
        for c in columns
    )
