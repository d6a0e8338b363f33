"""The small LightGBM of the propensity blend: fitting, raw log-odds and exact contributions.

Kept apart from the blend so that everything LightGBM-specific (threads, determinism, text form) has one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from predictive_scoring.model.columns import Column
from predictive_scoring.model.trees import FAR

Booster = lgb.Booster
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BoosterSettings:
    """The settings of a booster that a search may change; the defaults suit some hundred to some thousand conversions.

    ``leaves`` per tree, ``min_data`` rows per leaf, ``l2`` penalty of a leaf, ``feature_fraction`` of the columns that
    each tree sees. The number of trees (rounds) is chosen beside them.
    """

    leaves: int = 8
    learning_rate: float = 0.05
    min_data: int = 30
    l2: float = 10.0
    feature_fraction: float = 0.7

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> BoosterSettings:
        """Rebuild from :meth:`to_document`."""
        return cls(**document)

    @property
    def depth(self) -> int:
        """Two more than a balanced tree needs, because the cost of contributions grows with depth squared."""
        return (self.leaves - 1).bit_length() + 2


DEFAULT_SETTINGS = BoosterSettings()


def booster_matrix(encoded: Floats, columns: Sequence[Column]) -> Floats:
    """Return the encoded rows (n, k) as LightGBM reads them.

    The missing value of a column with a direction becomes its least favourable value, because LightGBM's monotone
    constraints say nothing about NaN.
    """
    directions = np.array([column.direction for column in columns], dtype=np.float64)
    result: Floats = np.where(np.isnan(encoded) & (directions != 0), -directions * FAR, encoded)
    return result


def fit_booster(
    encoded: Floats,
    y: Floats,
    columns: Sequence[Column],
    *,
    rounds: int,
    seed: int,
    weight: Floats | None = None,
    settings: BoosterSettings = DEFAULT_SETTINGS,
) -> Booster:
    """Fit ``rounds`` small trees by log-loss on encoded rows (n, k) and outcomes (n,) of 0/1.

    Deterministic for equal input, seed and LightGBM version. No class weights and no ``linear_tree``: the first spoil
    calibration, the second has no exact contributions.
    """
    categories = [j for j, column in enumerate(columns) if column.kind == "category"]
    parameters = {
        "objective": "binary",
        "verbosity": -1,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "num_leaves": settings.leaves,
        "max_depth": settings.depth,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.min_data,
        "lambda_l2": settings.l2,
        "feature_fraction": settings.feature_fraction,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "cat_smooth": 20.0,
        "cat_l2": 10.0,
        "min_data_per_group": 50,
        "max_cat_to_onehot": 4,
    }
    if any(column.direction for column in columns):
        parameters["monotone_constraints"] = [column.direction for column in columns]
        parameters["monotone_constraints_method"] = "basic"
    data = lgb.Dataset(
        booster_matrix(encoded, columns),
        label=y,
        weight=weight,
        categorical_feature=categories,
        # Own names: LightGBM refuses some characters that a user's column may have.
        feature_name=[f"c{j}" for j in range(len(columns))],
        free_raw_data=True,
    )
    return lgb.train(parameters, data, num_boost_round=rounds)


def load_booster(text: str) -> Booster:
    """Return the booster of a LightGBM model text. The text must be trusted: LightGBM crashes on a damaged one."""
    return Booster(model_str=text)


def booster_margin(
    booster: Booster, encoded: Floats, columns: Sequence[Column], *, rounds: int | None = None
) -> Floats:
    """Return raw log-odds (n,), of the first ``rounds`` trees if given."""
    if len(encoded) == 0:
        return np.zeros(0)
    return np.asarray(
        booster.predict(
            booster_matrix(encoded, columns),
            raw_score=True,
            num_threads=1,
            num_iteration=-1 if rounds is None else rounds,
        ),
        dtype=np.float64,
    )


def booster_contributions(
    booster: Booster, encoded: Floats, columns: Sequence[Column]
) -> tuple[float, Floats]:
    """Return the expected log-odds and each column's path-dependent TreeSHAP value (n, k) (Lundberg et al., 2020)."""
    # One all-missing row more: the base must be known for an empty frame too.
    rows = np.vstack([encoded, np.full((1, len(columns)), np.nan)])
    table = np.asarray(
        booster.predict(booster_matrix(rows, columns), pred_contrib=True, num_threads=1), dtype=np.float64
    )
    return float(table[-1, -1]), table[:-1, :-1]
