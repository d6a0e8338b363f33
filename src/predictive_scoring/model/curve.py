"""Several horizons on one rising curve, and the expected time to convert.

    logit P(T <= t | x) = z(x) + alpha(t),     alpha(main) = 0,     alpha never falls

z are the calibrated log-odds of the main horizon, T the time from the cutoff to the conversion: the proportional-odds
model (McCullagh 1980; Bennett 1983). One score orders leads at every horizon, and no lead can be likelier to convert
within 30 days than within 60. alpha(t) is the intercept of a logistic regression with the offset z on who had converted
by t, less the intercept found in the same way at the main horizon, so that a level that has drifted since calibration
does not bend the curve.

The examples are those whose label is known at the main horizon, with the weights that make them stand for all. Before
the main horizon they tell everything. Beyond it an example that has not converted is known only as long as it was
followed; the others are left out and the rest stand for them, by 1 / G with G the share of the examples still followed
(see `data.censoring`). A horizon that less than a tenth was followed for, or that fewer than ten conversions speak of,
is left out, and the curve says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from predictive_scoring.model.logistic import expit
from predictive_scoring.timeline import DAY, spoken_duration

Floats = npt.NDArray[np.float64]

FEWEST_CONVERSIONS = 10
LEAST_FOLLOWED = 0.1
GRID_POINTS = 12
"""Even steps to the longest horizon at which the curve is known besides the horizons asked for."""
FARTHEST_LEVEL = 30.0


@dataclass(frozen=True)
class ConversionCurve:
    """alpha(t) as numbers: ``levels`` (log-odds, rising) at the instants ``grid`` (seconds, rising), both (m,).

    ``horizons`` (seconds, rising, the main one among them) are what :meth:`probabilities` answers for, all in ``grid``.
    ``left_out`` says in words why a horizon that was asked for (seconds) is not among them."""

    main: int
    horizons: tuple[int, ...]
    grid: tuple[int, ...]
    levels: tuple[float, ...]
    left_out: Mapping[int, str] = field(default_factory=dict)

    @cached_property
    def horizons_days(self) -> tuple[int, ...]:
        """The horizons in whole days, at least one."""
        return tuple(max(1, round(horizon / DAY)) for horizon in self.horizons)

    @cached_property
    def _places(self) -> tuple[int, ...]:
        """Of each horizon its place on the grid."""
        return tuple(self.grid.index(horizon) for horizon in self.horizons)

    @cached_property
    def _widths(self) -> tuple[float, ...]:
        """Days that each instant of the grid stands for where a straight line between instants is integrated."""
        days = [0.0, *(instant / DAY for instant in self.grid)]
        steps = [(later - earlier) / 2.0 for earlier, later in pairwise(days)]
        return tuple(step + after for step, after in zip(steps, [*steps[1:], 0.0], strict=True))

    def _reached(self, logit: float) -> list[float]:
        """P(converts by) each instant of the grid."""
        return [1.0 / (1.0 + math.exp(-logit - level)) for level in self.levels]

    def told(self, logit: float) -> tuple[list[float], float]:
        """Return one row of :meth:`probabilities`, and of :meth:`expected_days`."""
        reached = self._reached(logit)
        share = sum(p * days for p, days in zip(reached, self._widths, strict=True)) / reached[-1]
        return [reached[place] for place in self._places], self.grid[-1] / DAY - share

    def probabilities(self, logit: npt.ArrayLike) -> Floats:
        """Return P(convert within each horizon) (n, horizons) for calibrated log-odds (n,) of the main horizon."""
        rows = [self.told(z)[0] for z in np.asarray(logit, dtype=np.float64).tolist()]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.horizons))

    def expected_days(self, logit: npt.ArrayLike) -> Floats:
        """Return the mean days (n,) from the cutoff to the conversion of those that convert by the last instant of the
        grid: ``integral of 1 - P(T <= t) / P(T <= last)``, P a straight line between the instants of the grid."""
        return np.array([self.told(z)[1] for z in np.asarray(logit, dtype=np.float64).tolist()])

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document; floats survive a round trip exactly."""
        return {
            "main": self.main,
            "horizons": list(self.horizons),
            "grid": list(self.grid),
            "levels": list(self.levels),
            "left_out": {str(horizon): reason for horizon, reason in self.left_out.items()},
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> ConversionCurve:
        """Rebuild from :meth:`to_document`."""
        return cls(
            int(document["main"]),
            tuple(int(one) for one in document["horizons"]),
            tuple(int(one) for one in document["grid"]),
            tuple(float(one) for one in document["levels"]),
            {int(horizon): str(reason) for horizon, reason in document["left_out"].items()},
        )


def fit_curve(
    logit: npt.ArrayLike,
    converted_after: npt.ArrayLike,
    followed: npt.ArrayLike,
    horizons: Sequence[int],
    main: int,
    weight: npt.ArrayLike | None = None,
) -> ConversionCurve:
    """Learn the curve from examples whose outcome at the main horizon is known.

    ``logit`` (n,): log-odds that the examples were not fitted on; ``converted_after`` (n,): seconds from the cutoff,
    NaN without a conversion; ``followed`` (n,): seconds, perhaps infinite; ``horizons`` and ``main``: seconds.
    ``weight`` (n,): the censoring weights at the main horizon. With too few conversions the curve knows the main
    horizon only."""
    z, d, f = (np.asarray(values, dtype=np.float64) for values in (logit, converted_after, followed))
    w = np.ones(len(z)) if weight is None else np.asarray(weight, dtype=np.float64)
    asked = sorted({*horizons, main})
    steps = [round(asked[-1] * step / GRID_POINTS) for step in range(1, GRID_POINTS + 1)]
    at_main = _level(z, d, f, w, main, main)
    levels: dict[int, float] = {}
    left_out: dict[int, str] = {}
    for t in sorted({*asked, *steps} - {main}):
        found = _level(z, d, f, w, t, main)
        if isinstance(found, float) and isinstance(at_main, float):
            levels[t] = found - at_main
        elif t in asked:
            left_out[t] = f"{spoken_duration(t)}: {found if isinstance(found, str) else at_main}"
    # Pooled apart on both sides of the main horizon, whose level is what everything is measured by.
    before, after = ([t for t in levels if (t > main) == later] for later in (False, True))
    rising = {
        **dict(zip(before, _rising([levels[t] for t in before], highest=0.0), strict=True)),
        main: 0.0,
        **dict(zip(after, _rising([levels[t] for t in after], lowest=0.0), strict=True)),
    }
    return ConversionCurve(
        main,
        tuple(t for t in asked if t in rising),
        tuple(rising),
        tuple(rising.values()),
        left_out,
    )


def _level(z: Floats, d: Floats, f: Floats, w: Floats, t: int, main: int) -> float | str:
    """The intercept beside the offset z of who had converted by t; or in words why it cannot be told."""
    from scipy.optimize import brentq

    converted = d < np.minimum(t, f)
    weight = w.copy()
    if t > main:
        # Known at the main horizon, and not converted by then: from here on followed for different times.
        open_then = ~(d < main)
        still = np.sort(f[open_then])
        reached = len(still) - int(np.searchsorted(still, t, side="left"))
        if reached < LEAST_FOLLOWED * len(still):
            return f"only {reached} of {len(still)} examples were followed that long"
        beyond = len(still) - np.searchsorted(still, np.where(converted, d, 0.0), side="right")
        stands_for = len(still) / np.maximum(np.where(converted, beyond, reached), 1)
        weight = np.where(open_then, w * stands_for, w)
        weight = np.where(converted | (f >= t), weight, 0.0)
    number = int((converted & (weight > 0)).sum())
    others = int((~converted & (weight > 0)).sum())
    if min(number, others) < FEWEST_CONVERSIONS:
        few = f"{number} conversions" if number < FEWEST_CONVERSIONS else f"{others} examples without one"
        return f"only {few} tell of it"
    level: float = brentq(
        lambda a: float(weight @ (expit(z + a) - converted)), -FARTHEST_LEVEL, FARTHEST_LEVEL, xtol=1e-12
    )
    return level


def _rising(
    levels: Sequence[float], *, lowest: float | None = None, highest: float | None = None
) -> list[float]:
    from sklearn.isotonic import isotonic_regression

    if not levels:
        return []
    pooled = isotonic_regression(np.asarray(levels), y_min=lowest, y_max=highest)
    return [float(level) for level in pooled]
