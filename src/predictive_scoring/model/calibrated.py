"""The scoring function: a propensity model, its calibration, and contributions that add up to the log-odds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit

from predictive_scoring.model.calibration import LOGIT_LIMIT, PlattCalibration, fit_platt
from predictive_scoring.model.columns import Column
from predictive_scoring.model.propensity import PropensityModel, Selection, select_propensity

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CalibratedModel:
    """A propensity model and the calibration fitted for it."""

    propensity: PropensityModel
    calibration: PlattCalibration

    @property
    def columns(self) -> tuple[Column, ...]:
        """The model's inputs, in the order of the contributions."""
        return self.propensity.columns

    def logit(self, frame: pd.DataFrame) -> Floats:
        """Return calibrated log-odds (n,); equals the fourth part of :meth:`contributions` to 1e-9, and is faster."""
        return self.calibration.logit(self.propensity.margin(frame))

    def probability(self, frame: pd.DataFrame) -> Floats:
        """Return P(convert within the horizon) (n,)."""
        result: Floats = expit(self.logit(frame))
        return result

    def interval(self, frame: pd.DataFrame) -> tuple[Floats, Floats]:
        """Return (low, high), each (n,): see :meth:`PlattCalibration.interval`."""
        return self.calibration.interval(self.propensity.margin(frame))

    def contributions(self, frame: pd.DataFrame) -> tuple[float, Floats, Floats, Floats]:
        """Return :func:`calibrated_contributions` of the rows."""
        return calibrated_contributions(self.propensity, self.calibration, frame)

    def to_document(self) -> dict[str, Any]:
        """Return all but the booster text as a JSON-able document."""
        return {"propensity": self.propensity.to_document(), "calibration": self.calibration.to_document()}

    @property
    def booster_text(self) -> str:
        """The LightGBM text; empty when the model is the ridge alone."""
        return self.propensity.booster_text

    @classmethod
    def from_document(cls, document: Mapping[str, Any], booster_text: str) -> CalibratedModel:
        """Rebuild from :meth:`to_document` and the (trusted) LightGBM text."""
        return cls(
            PropensityModel.from_document(document["propensity"], booster_text),
            PlattCalibration.from_document(document["calibration"]),
        )


def calibrated_contributions(
    model: PropensityModel, calibration: PlattCalibration, frame: pd.DataFrame
) -> tuple[float, Floats, Floats, Floats]:
    """Return (base, phi (n, k), limit (n,), logit (n,)) in log-odds: ``base + phi.sum(1) + limit == logit``.

    METHODS section 2: ``phi_j = a phi_j(margin)``, ``base = a base(margin) + b``. ``limit`` is what the bound of +-15
    took away ("probability limited"), zero for every realistic lead. ``logit`` is within +-15, so that
    ``logit(sigmoid(z)) == z`` to 1e-9.
    """
    raw_base, raw_phi = model.contributions(frame)
    base = calibration.slope * raw_base + calibration.intercept
    phi: Floats = calibration.slope * raw_phi
    unbounded = base + phi.sum(axis=1)
    logit = np.clip(unbounded, -LOGIT_LIMIT, LOGIT_LIMIT)
    return base, phi, logit - unbounded, logit


def fit_calibrated(
    train_X: pd.DataFrame,
    train_y: npt.ArrayLike,
    recent_X: pd.DataFrame,
    recent_y: npt.ArrayLike,
    columns: Sequence[Column],
    *,
    seed: int,
    recent_leads: npt.ArrayLike | None = None,
    recent_times: npt.ArrayLike | None = None,
    train_weight: npt.ArrayLike | None = None,
    recent_weight: npt.ArrayLike | None = None,
    replicates: int = 200,
) -> tuple[CalibratedModel, Selection]:
    """Run the whole recipe: select and refit the propensity model, calibrate it on its out-of-fold recent margins.

    Arguments and errors as :func:`select_propensity`; ``recent_leads`` (n_recent,) are lead ids for the bootstrap. The
    selection is returned too: its ``recent_margin`` is what an honest report of the recent period needs.
    """
    selection = select_propensity(
        train_X,
        train_y,
        recent_X,
        recent_y,
        columns,
        seed=seed,
        recent_times=recent_times,
        train_weight=train_weight,
        recent_weight=recent_weight,
    )
    calibration = fit_platt(
        selection.recent_margin,
        recent_y,
        groups=recent_leads,
        seed=seed,
        replicates=replicates,
        weight=recent_weight,
    )
    return CalibratedModel(selection.model, calibration), selection
