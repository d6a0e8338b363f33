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
Whole = npt.NDArray[np.intp]

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


@dataclass(frozen=True)
class Design:
    """The design matrix of some columns, sorted into what is done to all of them at once: a lead alone costs 20 us
    instead of half a millisecond. Made by :meth:`of`.

    Arrays of the numbers' columns, bounds and so on run alongside each other; ``order`` puts the parts (numbers,
    levels, missing flags) into the order of the columns."""

    numbers: Whole
    logs: Whole
    low: Floats
    high: Floats
    centre: Floats
    scale: Floats
    fill: Floats
    flags: Whole
    levels: Whole
    codes: Floats
    order: Whole

    @classmethod
    def of(cls, columns: Sequence[Column], transforms: Sequence[NumberTransform | None]) -> Design:
        """The design of the columns; ``None`` is the transform of a category."""
        pairs = list(enumerate(zip(columns, transforms, strict=True)))
        numbers = [(j, transform) for j, (_, transform) in pairs if transform is not None]
        flags = [j for j, (_, transform) in pairs if transform is None or transform.flag]
        levels = [
            (j, code) for j, (c, transform) in pairs if transform is None for code in range(len(c.vocabulary))
        ]
        # Sorting by column keeps what belongs to a column in the order value, levels, missing flag.
        of_column = np.array([*(j for j, _ in numbers), *(j for j, _ in levels), *flags], dtype=np.intp)
        fitted = [transform for _, transform in numbers]
        centre, scale = (
            np.array([getattr(one, name) for one in fitted], dtype=np.float64) for name in ("centre", "scale")
        )
        return cls(
            numbers=np.array([j for j, _ in numbers], dtype=np.intp),
            logs=np.array([place for place, one in enumerate(fitted) if one.log], dtype=np.intp),
            low=centre - CLIP * scale,
            high=centre + CLIP * scale,
            centre=centre,
            scale=scale,
            fill=np.array([one.fill for one in fitted], dtype=np.float64),
            flags=np.array(flags, dtype=np.intp),
            levels=np.array([j for j, _ in levels], dtype=np.intp),
            codes=np.array([code for _, code in levels], dtype=np.float64),
            order=np.argsort(of_column, kind="stable"),
        )

    def matrix(self, encoded: Floats) -> Floats:
        """Return the design (n, d) of encoded rows (n, k): per number its value [and missing flag], per category
        one-hot levels and missing. An unseen category is all zeros, which under ridge is the unweighted mean of its
        levels."""
        x = encoded.take(self.numbers, axis=1)
        if len(self.logs):
            x[:, self.logs] = signed_log1p(x.take(self.logs, axis=1))
        # Clipping before dividing keeps 1e308 (and infinities) finite.
        z = (np.minimum(np.maximum(x, self.low), self.high) - self.centre) / self.scale
        z = np.where(np.isnan(z), self.fill, z)
        flags = np.isnan(encoded.take(self.flags, axis=1))
        levels = encoded.take(self.levels, axis=1) == self.codes
        return np.concatenate([z, levels, flags], axis=1).take(self.order, axis=1)


def design_matrix(
    encoded: Floats, columns: Sequence[Column], transforms: Sequence[NumberTransform | None]
) -> Floats:
    """Return :meth:`Design.matrix` of encoded rows (n, k)."""
    return Design.of(columns, transforms).matrix(encoded)


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
