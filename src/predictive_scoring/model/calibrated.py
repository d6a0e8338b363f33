"""The scoring function: a propensity model, its calibration, and contributions that add up to the log-odds.

Three rungs by the number of conversions (METHODS section 1): a points card, the ridge alone, and the blend with trees.
How they are fitted: ``fitting``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from predictive_scoring.model.calibration import LOGIT_LIMIT, PlattCalibration
from predictive_scoring.model.columns import Column, encode
from predictive_scoring.model.logistic import expit
from predictive_scoring.model.propensity import PropensityModel

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]


Basis = Literal["points_card", "ridge", "blend"]


@dataclass(frozen=True)
class Evidence:
    """What a score rests on: the rung, and the converted leads and the examples (rows) it was fitted on."""

    basis: Basis
    conversions: int
    examples: int

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Evidence:
        """Rebuild from :meth:`to_document`."""
        return cls(document["basis"], int(document["conversions"]), int(document["examples"]))


@dataclass(frozen=True)
class Answers:
    """What the model says about n rows of k columns, in log-odds: ``base + phi.sum(1) + limit == logit`` (see
    :func:`calibrated_contributions`); ``low`` and ``high`` (n,) are the interval of the probability, ``sizes`` (n,) the
    effective sample sizes, and ``before`` (n,) the log-odds that the rows had before."""

    base: float
    phi: Floats
    limit: Floats
    logit: Floats
    probability: Floats
    low: Floats
    high: Floats
    sizes: Floats
    before: Floats


@dataclass(frozen=True)
class CalibratedModel:
    """A propensity model and the calibration fitted for it. ``evidence`` is None for a model of an older version."""

    propensity: PropensityModel
    calibration: PlattCalibration
    evidence: Evidence | None = None

    @property
    def columns(self) -> tuple[Column, ...]:
        """The model's inputs, in the order of the contributions."""
        return self.propensity.columns

    def answers(self, now: Floats, before: Floats) -> Answers:
        """Return everything that is told about encoded rows (n, k) and what they were before (n, k), from one reading
        of the parts of the model."""
        raw_base, raw_phi, raw_before = self.propensity.compared(now, before)
        base, phi, limit, logit = _calibrated(raw_base, raw_phi, self.calibration)
        margin, probability = raw_base + raw_phi.sum(axis=1), expit(logit)
        return Answers(
            base,
            phi,
            limit,
            logit,
            probability,
            *self.calibration.interval_about(margin, probability),
            self._bounded(self.calibration.size_about(margin, probability)),
            self.calibration.logit(raw_before),
        )

    def logit(self, frame: pd.DataFrame) -> Floats:
        """Return calibrated log-odds (n,); equals the fourth part of :meth:`contributions` to 1e-9, and is faster."""
        return self.encoded_logit(encode(frame, self.columns))

    def encoded_logit(self, encoded: Floats) -> Floats:
        """Return the same of encoded rows (n, k)."""
        return self.calibration.logit(self.propensity.encoded_margin(encoded))

    def probability(self, frame: pd.DataFrame) -> Floats:
        """Return P(convert within the horizon) (n,)."""
        return expit(self.logit(frame))

    def interval(self, frame: pd.DataFrame) -> tuple[Floats, Floats]:
        """Return (low, high), each (n,): see :meth:`PlattCalibration.interval`."""
        return self.calibration.interval(self.propensity.margin(frame))

    def effective_sample_size(self, frame: pd.DataFrame) -> Floats:
        """Return, per row (n,), how many leads' observed rate would be as uncertain as the probability.

        See :meth:`PlattCalibration.effective_sample_size`; never more than the examples there were.
        """
        return self._bounded(self.calibration.effective_sample_size(self.propensity.margin(frame)))

    def _bounded(self, size: Floats) -> Floats:
        return size if self.evidence is None else np.minimum(size, float(self.evidence.examples))

    def contributions(self, frame: pd.DataFrame) -> tuple[float, Floats, Floats, Floats]:
        """Return :func:`calibrated_contributions` of the rows."""
        return calibrated_contributions(self.propensity, self.calibration, frame)

    def to_document(self) -> dict[str, Any]:
        """Return all but the booster text as a JSON-able document."""
        evidence = {} if self.evidence is None else {"evidence": self.evidence.to_document()}
        return {
            "propensity": self.propensity.to_document(),
            "calibration": self.calibration.to_document(),
            **evidence,
        }

    @property
    def booster_text(self) -> str:
        """The LightGBM text; empty when the model is the ridge alone."""
        return self.propensity.booster_text

    @classmethod
    def from_document(cls, document: Mapping[str, Any], booster_text: str) -> CalibratedModel:
        """Rebuild from :meth:`to_document` and the (trusted) LightGBM text."""
        evidence = document.get("evidence")
        return cls(
            PropensityModel.from_document(document["propensity"], booster_text),
            PlattCalibration.from_document(document["calibration"]),
            None if evidence is None else Evidence.from_document(evidence),
        )


def calibrated_contributions(
    model: PropensityModel, calibration: PlattCalibration, frame: pd.DataFrame
) -> tuple[float, Floats, Floats, Floats]:
    """Return (base, phi (n, k), limit (n,), logit (n,)) in log-odds: ``base + phi.sum(1) + limit == logit``.

    METHODS section 2: ``phi_j = a phi_j(margin)``, ``base = a base(margin) + b``. ``limit`` is what the bound of +-15
    took away ("probability limited"), zero for every realistic lead. ``logit`` is within +-15, so that
    ``logit(sigmoid(z)) == z`` to 1e-9.
    """
    return _calibrated(*model.contributions(frame), calibration)


def _calibrated(
    raw_base: float, raw_phi: Floats, calibration: PlattCalibration
) -> tuple[float, Floats, Floats, Floats]:
    base = calibration.slope * raw_base + calibration.intercept
    phi: Floats = calibration.slope * raw_phi
    unbounded = base + phi.sum(axis=1)
    logit = np.minimum(np.maximum(unbounded, -LOGIT_LIMIT), LOGIT_LIMIT)
    return base, phi, logit - unbounded, logit
