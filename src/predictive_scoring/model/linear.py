"""Ridge logistic regression over transformed lead inputs, stored as plain numbers.

The inputs arrive as the encoded matrix of :mod:`predictive_scoring.model.columns`: one float column per
:class:`Column`, NaN = missing, a category as the integer code of its vocabulary (``len(vocabulary)`` = unseen).
This module turns that matrix into a design matrix and fits

    minimise  sum_i w_i log(1 + exp(-s_i z_i)) + penalty / 2 * |beta|^2,      z = intercept + D beta

(s_i = +-1, intercept not penalised; Hastie, Tibshirani, Friedman, "The Elements of Statistical Learning", 4.4.4) by
Newton steps within bounds, because bounds on the coefficients are what makes declared directions hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit
from threadpoolctl import threadpool_limits

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


NEWTON_STEPS = 50
NEWTON_TOLERANCE = 1e-10
"""Of the loss: further steps would not change a probability in its eighth digit."""


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


@dataclass(frozen=True)
class LinearPart:
    """A fitted ridge logistic regression; each column owns a run of neighbouring design columns.

    Shapes: ``coefficients`` and ``means`` (training means of the design columns) (d,); ``transforms`` (k,), ``None``
    for categories.
    """

    columns: tuple[Column, ...]
    transforms: tuple[NumberTransform | None, ...]
    intercept: float
    coefficients: tuple[float, ...]
    means: tuple[float, ...]
    penalty: float

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        widths = [_width(c, t) for c, t in zip(self.columns, self.transforms, strict=True)]
        return np.cumsum([0, *widths[:-1]])

    @cached_property
    def _beta(self) -> Floats:
        return np.asarray(self.coefficients, dtype=np.float64)

    def margin(self, encoded: Floats) -> Floats:
        """Return log-odds (n,) of the encoded rows (n, k)."""
        # A sum per row, not a matrix product: BLAS rounds one row and a thousand rows differently, and a lead must
        # score the same alone and in a batch.
        parts = design_matrix(encoded, self.columns, self.transforms) * self._beta
        result: Floats = self.intercept + parts.sum(axis=1)
        return result

    def contributions(self, encoded: Floats) -> tuple[float, Floats]:
        """Return the log-odds at the training mean and each column's part (n, k): METHODS section 2."""
        means = np.asarray(self.means, dtype=np.float64)
        design = design_matrix(encoded, self.columns, self.transforms)
        phi: Floats = np.add.reduceat((design - means) * self._beta, self._starts, axis=1)
        return self.intercept + float(means @ self._beta), phi

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document; floats survive a round trip exactly (shortest repr)."""
        return {
            "penalty": self.penalty,
            "intercept": self.intercept,
            "coefficients": list(self.coefficients),
            "means": list(self.means),
            "transforms": [
                None
                if t is None
                else {"log": t.log, "centre": t.centre, "scale": t.scale, "fill": t.fill, "flag": t.flag}
                for t in self.transforms
            ],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any], columns: Sequence[Column]) -> LinearPart:
        """Rebuild from :meth:`to_document` and the columns it was fitted on."""
        return cls(
            columns=tuple(columns),
            transforms=tuple(None if t is None else NumberTransform(**t) for t in document["transforms"]),
            intercept=float(document["intercept"]),
            coefficients=tuple(float(v) for v in document["coefficients"]),
            means=tuple(float(v) for v in document["means"]),
            penalty=float(document["penalty"]),
        )


def _width(column: Column, transform: NumberTransform | None) -> int:
    return len(column.vocabulary) + 1 if transform is None else 1 + int(transform.flag)


def _bounds(
    columns: Sequence[Column], transforms: Sequence[NumberTransform | None]
) -> list[tuple[float | None, float | None]]:
    bounds: list[tuple[float | None, float | None]] = [(None, None)]  # the intercept
    for column, transform in zip(columns, transforms, strict=True):
        if transform is None:
            bounds += [(None, None)] * (len(column.vocabulary) + 1)
            continue
        value = {0: (None, None), 1: (0.0, None), -1: (None, 0.0)}[column.direction]
        bounds.append(value)
        if transform.flag:
            # With a direction, a missing value already stands at the least favourable bound: it may only lose more.
            bounds.append((None, 0.0) if column.direction else (None, None))
    return bounds


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


def fit_linear(
    encoded: Floats,
    y: Floats,
    columns: Sequence[Column],
    *,
    penalty: float,
    weight: Floats | None = None,
    start: LinearPart | None = None,
) -> LinearPart:
    """Fit the ridge logistic regression on encoded rows (n, k) and outcomes (n,) of 0/1.

    ``penalty`` is in units of the summed log-loss (1 / C of scikit-learn). ``start`` is an earlier fit on the same rows
    whose transforms and coefficients are reused (a path over penalties).
    """
    transforms = start.transforms if start is not None else learn_transforms(encoded, columns)
    design = design_matrix(encoded, columns, transforms)
    w = np.ones(len(y)) if weight is None else weight
    rate = float(np.clip((w @ y) / w.sum(), 1e-6, 1 - 1e-6))
    beta = np.zeros(design.shape[1] + 1)
    beta[0] = np.log(rate / (1 - rate))
    if start is not None:
        beta = np.concatenate([[start.intercept], start.coefficients])

    # Several BLAS threads spin while they wait for a busy core: on a shared machine one is many times faster.
    with threadpool_limits(limits=1, user_api="blas"):
        theta = _minimise(design, y, w, penalty, _bounds(columns, transforms), beta)
    return LinearPart(
        columns=tuple(columns),
        transforms=transforms,
        intercept=float(theta[0]),
        coefficients=tuple(float(v) for v in theta[1:]),
        means=tuple(float(v) for v in np.average(design, axis=0, weights=w)),
        penalty=penalty,
    )


def _minimise(
    design: Floats,
    y: Floats,
    w: Floats,
    penalty: float,
    bounds: Sequence[tuple[float | None, float | None]],
    start: Floats,
) -> Floats:
    """The bounded minimum (d + 1,) of the module's loss: Newton steps, each the bounded minimum of the local parabola.

    A parabola in d dimensions costs microseconds, so the rows are passed over some six times instead of the sixty of a
    quasi-Newton search on them. Steps are halved until the loss falls; it is convex, so the minimum found is the one.
    """
    ridge = np.full(len(start), penalty)
    ridge[0] = 0.0
    lower = np.array([-np.inf if low is None else low for low, _ in bounds])
    upper = np.array([np.inf if high is None else high for _, high in bounds])
    theta = np.clip(start, lower, upper)

    def loss_at(point: Floats) -> tuple[float, Floats]:
        z = point[0] + design @ point[1:]
        return float(w @ (np.logaddexp(0.0, z) - y * z) + 0.5 * ridge @ point**2), z

    loss, z = loss_at(theta)
    for _ in range(NEWTON_STEPS):
        p = expit(z)
        residual = w * (p - y)
        gradient = np.concatenate([[residual.sum()], residual @ design]) + ridge * theta
        curvature = w * p * (1.0 - p)
        weighted = design * curvature[:, None]
        hessian = np.empty((len(theta), len(theta)))
        hessian[0, 0] = curvature.sum()
        hessian[0, 1:] = hessian[1:, 0] = weighted.sum(axis=0)
        hessian[1:, 1:] = design.T @ weighted
        hessian[np.diag_indices_from(hessian)] += ridge
        step = _bounded_parabola(hessian, gradient, lower - theta, upper - theta)
        # Twice the expected gain bounds the distance to the minimum (Boyd and Vandenberghe, 9.5.1).
        if -float(gradient @ step) <= NEWTON_TOLERANCE * max(1.0, loss):
            break
        share = 1.0
        while share > 1e-6:
            candidate, candidate_z = loss_at(theta + share * step)
            if candidate <= loss:
                theta, loss, z = theta + share * step, candidate, candidate_z
                break
            share /= 2.0
        else:
            break
    return np.clip(theta, lower, upper)


def _bounded_parabola(hessian: Floats, gradient: Floats, lower: Floats, upper: Floats) -> Floats:
    """The step (d,) within the bounds that minimises ``gradient step + step hessian step / 2``."""
    scale = 1.0 / np.sqrt(np.maximum(np.diag(hessian), 1e-12))
    scaled = hessian * scale[:, None] * scale

    def parabola(step: Floats) -> tuple[float, Floats]:
        bent = scaled @ step
        slope = gradient * scale
        return float(slope @ step + 0.5 * step @ bent), slope + bent

    result = minimize(
        parabola,
        np.zeros(len(gradient)),
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(lower / scale, upper / scale, strict=True)),
        options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-15, "gtol": 1e-9},
    )
    step: Floats = result.x * scale
    return step
