"""The scoring model as a scikit-learn classifier, for tables that need no project file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import assert_all_finite, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import (
    _check_sample_weight,
    _num_samples,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from predictive_scoring.model.calibrated import CalibratedModel
from predictive_scoring.model.calibration import PlattCalibration, fit_platt
from predictive_scoring.model.columns import Column, encode, learn_columns
from predictive_scoring.model.design import CLIP, NumberTransform
from predictive_scoring.model.fitting import fit_calibrated
from predictive_scoring.model.folds import BLOCK_CONVERSIONS
from predictive_scoring.model.linear import LinearPart, fit_linear
from predictive_scoring.model.propensity import PropensityModel
from predictive_scoring.model.search import USUAL_PENALTY
from predictive_scoring.model.tuning import Tuning

Floats = npt.NDArray[np.float64]

RECENT_SHARE = 0.25
"""Share of the rows, the newest, that settings and calibration are chosen on when rows are in order."""
REPLICATES = 50


class LeadScorer(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped bases
    """Calibrated, explained probability of one of two classes: the blend of ridge and small trees behind `train`.

    Parameters
    ----------
    ordered : whether rows are in time order, oldest first. Settings and calibration are then chosen on the newest
        quarter; otherwise on random folds.
    categories : names of columns (positions for arrays) whose numbers are codes. Columns of text always are categories.
    directions : column to +1 (more can only raise the score) or -1 (more can only lower it); missing counts as least
        favourable.
    trials, minutes : budget of a wider search for settings; None for the usual candidates.
    random_state : seed; equal input and seed give an equal model.

    Attributes
    ----------
    classes_ : the two classes; the second is the one whose probability is scored.
    n_features_in_, feature_names_in_ : as usual; names only after a frame with text names.
    model_ : the fitted CalibratedModel.

    Numbers may be missing and need no scaling. Below 20 rows of either class the model is a strongly penalised ridge
    without a calibration of its own. ``sample_weight`` counts rows; ``groups`` are lead ids, kept in one fold.
    """

    def __init__(
        self,
        *,
        ordered: bool = False,
        categories: Sequence[Any] | None = None,
        directions: Mapping[Any, int] | None = None,
        trials: int | None = None,
        minutes: float | None = None,
        random_state: Any = 7,
    ) -> None:
        self.ordered = ordered
        self.categories = categories
        self.directions = directions
        self.trials = trials
        self.minutes = minutes
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags

    def fit(
        self, X: Any, y: Any, sample_weight: npt.ArrayLike | None = None, groups: npt.ArrayLike | None = None
    ) -> LeadScorer:
        """Fit on rows X (n, k), an array or a frame, and outcomes y (n,) of two classes.

        Raises ValueError for input that cannot be learned from."""
        frame = self._frame(X, reset=True)
        outcome = self._outcomes(y)
        check_consistent_length(frame, outcome)
        weight = _check_sample_weight(sample_weight, frame, dtype=np.float64, ensure_non_negative=True)
        lead = None if groups is None else np.asarray(groups)
        check_consistent_length(frame, lead)
        counted = weight > 0.0
        if not counted.all():
            frame, outcome, weight = frame[counted].reset_index(drop=True), outcome[counted], weight[counted]
            lead = None if lead is None else lead[counted]
            if len(np.unique(outcome)) < 2:
                raise ValueError("the rows with a weight hold 1 class; a classifier needs 2 classes")
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)):
            seed = check_random_state(seed).randint(np.iinfo(np.int32).max)
        kinds = self._kinds(frame)
        columns = learn_columns(frame, kinds, directions=self._directions(kinds))
        tuning = None
        if self.trials is not None or self.minutes is not None:
            tuning = Tuning(self.trials, self.minutes)
        border = round(len(frame) * (1.0 - RECENT_SHARE)) if self.ordered else 0
        if _too_few(outcome[border:], weight[border:]) or (
            border and _too_few(outcome[:border], weight[:border])
        ):
            self.model_ = _small_model(frame, outcome, weight, columns, int(seed))
            return self
        self.model_, _ = fit_calibrated(
            frame[:border],
            outcome[:border],
            frame[border:].reset_index(drop=True),
            outcome[border:],
            columns,
            seed=int(seed),
            recent_leads=None if lead is None else lead[border:],
            train_weight=weight[:border],
            recent_weight=weight[border:],
            ordered=self.ordered,
            tuning=tuning,
            replicates=REPLICATES,
        )
        return self

    def decision_function(self, X: Any) -> Floats:
        """Return calibrated log-odds (n,) of the second class."""
        check_is_fitted(self)
        return self.model_.logit(self._frame(X))

    def predict_proba(self, X: Any) -> Floats:
        """Return probabilities (n, 2) in the order of `classes_`."""
        p = expit(self.decision_function(X))
        return np.column_stack([1.0 - p, p])

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the likelier class of each row (n,)."""
        second = self.decision_function(X) > 0.0
        chosen: npt.NDArray[Any] = self.classes_[second.astype(np.int64)]
        return chosen

    def scores(self, X: Any) -> pd.DataFrame:
        """Return probability, its range for leads with this score (low, high: 90 %), and log_odds, with X's index."""
        check_is_fitted(self)
        frame = self._frame(X)
        low, high = self.model_.interval(frame)
        z = self.model_.logit(frame)
        return pd.DataFrame(
            {"probability": expit(z), "low": low, "high": high, "log_odds": z}, index=_index(X, len(frame))
        )

    def explain(self, X: Any) -> pd.DataFrame:
        """Return `base` and each column's contribution; a row adds up to its log-odds.

        The base is that of the average row, less what the bound of +-15 log-odds took away."""
        check_is_fitted(self)
        frame = self._frame(X)
        base, phi, limit, _ = self.model_.contributions(frame)
        parts = pd.DataFrame(phi, columns=list(frame.columns), index=_index(X, len(frame)))
        parts.insert(0, "base", base + limit, allow_duplicates=True)
        return parts

    def _frame(self, X: Any, *, reset: bool = False) -> pd.DataFrame:
        """X as a frame whose columns are numbers or text; named by position when X has no names of text."""
        if not isinstance(X, pd.DataFrame):
            values = validate_data(
                self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan", ensure_min_samples=1
            )
            return pd.DataFrame(values, columns=[f"x{j}" for j in range(values.shape[1])])
        validate_data(self, X, reset=reset, skip_check_array=True)
        if len(X) == 0 or X.shape[1] == 0:
            raise ValueError(f"found a frame of shape {X.shape}; at least 1 row and 1 feature are needed")
        named = hasattr(self, "feature_names_in_")
        columns: dict[str, Any] = {}
        for j, name in enumerate(X.columns):
            series = X.iloc[:, j].reset_index(drop=True)
            columns[str(name) if named else f"x{j}"] = _plain(series, name)
        return pd.DataFrame(columns)

    def _outcomes(self, y: Any) -> Floats:
        if y is None:
            raise ValueError("LeadScorer requires y to be passed, but the target y is None")
        labels = column_or_1d(y, warn=True)
        assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        kind = type_of_target(labels, input_name="y")
        if kind != "binary":
            raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y holds 1 class ({self.classes_[0]!r}); a classifier needs 2 classes, in {_num_samples(y)} samples"
            )
        return codes.astype(np.float64)

    def _names(self) -> dict[Any, str]:
        """Our names of the columns by what the user calls them."""
        positions = {j: f"x{j}" for j in range(self.n_features_in_)}
        return {name: name for name in getattr(self, "feature_names_in_", ())} or positions

    def _own(self, names: Sequence[Any], parameter: str) -> list[str]:
        known = self._names()
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(f"`{parameter}` names columns that X does not have: {unknown}")
        return [known[name] for name in names]

    def _kinds(self, frame: pd.DataFrame) -> dict[str, str]:
        codes = set(self._own(list(self.categories or ()), "categories"))
        self.kinds_ = {
            name: "number" if name not in codes and pd.api.types.is_numeric_dtype(frame[name]) else "category"
            for name in map(str, frame.columns)
        }
        return self.kinds_

    def _directions(self, kinds: Mapping[str, str]) -> dict[str, int]:
        wanted = dict(self.directions or {})
        named = dict(zip(self._own(list(wanted), "directions"), wanted.values(), strict=True))
        if texts := [name for name in named if kinds[name] == "category"]:
            raise ValueError(f"`directions` names categories: {texts}; only a number can have a direction")
        return named


def _plain(series: pd.Series, name: Any) -> Any:
    """Floats, or objects of text and None. Raises ValueError for infinity and for what is neither."""
    if pd.api.types.is_numeric_dtype(series.dtype) or pd.api.types.is_bool_dtype(series.dtype):
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
        if np.isinf(values).any():
            raise ValueError(f"Input X contains infinity in column {name!r}")
        return values
    if series.dtype.kind in "mM":
        raise ValueError(f"column {name!r} holds dates or durations; turn it into a number first")
    present = series.dropna()
    if series.dtype == object and len(present) and not present.map(lambda v: isinstance(v, str)).any():
        return _plain(pd.Series(pd.to_numeric(series)), name)
    return np.array([None if pd.isna(v) else str(v) for v in series], dtype=object)


def _index(X: Any, n: int) -> pd.Index:
    return X.index if isinstance(X, pd.DataFrame) else pd.RangeIndex(n)


def _too_few(y: Floats, weight: Floats) -> bool:
    return min(float(weight @ y), float(weight @ (1.0 - y))) < BLOCK_CONVERSIONS


def _small_model(
    frame: pd.DataFrame, y: Floats, weight: Floats, columns: Sequence[Column], seed: int
) -> CalibratedModel:
    """A ridge with the usual penalty: too few outcomes to choose or to calibrate anything.

    A row of weight 2 counts as two equal rows, in the standardisation too."""
    encoded = encode(frame, columns)
    transforms = tuple(
        _weighted_transform(encoded[:, j], weight, column.direction) if column.kind == "number" else None
        for j, column in enumerate(columns)
    )
    width = sum(
        1 if t is not None else len(c.vocabulary) + 1 for c, t in zip(columns, transforms, strict=True)
    )
    rate = float(weight @ y / weight.sum())
    start = LinearPart(
        tuple(columns),
        transforms,
        float(np.log(rate / (1.0 - rate))),
        (0.0,) * width,
        (0.0,) * width,
        USUAL_PENALTY,
    )
    linear = fit_linear(encoded, y, columns, penalty=USUAL_PENALTY, weight=weight, start=start)
    calibration = fit_platt(linear.margin(encoded), y, seed=seed, replicates=REPLICATES, weight=weight)
    identity = replace(PlattCalibration(1.0, 0.0), replicates=calibration.replicates)
    return CalibratedModel(PropensityModel(tuple(columns), linear, "", 0.0), identity)


def _weighted_transform(values: Floats, weight: Floats, direction: int) -> NumberTransform:
    present = np.isfinite(values)
    x, w = values[present], weight[present]
    if len(x) == 0:
        return NumberTransform(False, 0.0, 1.0, 0.0, False)
    # Values past 1e100 would overflow the square.
    x = np.clip(x, -1e100, 1e100)
    centre = float(np.average(x, weights=w))
    scale = float(np.sqrt(np.average((x - centre) ** 2, weights=w)))
    if scale <= 1e-9 * max(1.0, abs(centre)):
        scale = 1.0
    return NumberTransform(False, centre, scale, -CLIP * direction, False)
