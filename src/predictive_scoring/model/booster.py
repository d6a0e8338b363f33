"""The small LightGBM of the propensity blend: fitting, raw log-odds and exact contributions.

Kept apart from the blend so that everything LightGBM-specific (threads, determinism, text form) has one place.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Idle OpenMP threads spin by default, which made two threads 12-30 times slower than one on a shared machine. The
# variable is read when the OpenMP runtime is loaded, that is, by the import below: it must be set before.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import lightgbm as lgb

from predictive_scoring.model.columns import Column

Booster = lgb.Booster
Floats = npt.NDArray[np.float64]

LEAVES = 8
LEARNING_RATE = 0.05
_FAR = 1e300


def booster_matrix(encoded: Floats, columns: Sequence[Column]) -> Floats:
    """Return the encoded rows (n, k) as LightGBM reads them.

    The missing value of a column with a direction becomes its least favourable value, because LightGBM's monotone
    constraints say nothing about NaN.
    """
    directions = np.array([column.direction for column in columns], dtype=np.float64)
    result: Floats = np.where(np.isnan(encoded) & (directions != 0), -directions * _FAR, encoded)
    return result


def fit_booster(
    encoded: Floats,
    y: Floats,
    columns: Sequence[Column],
    *,
    rounds: int,
    seed: int,
    weight: Floats | None = None,
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
        "num_leaves": LEAVES,
        "max_depth": 5,
        "learning_rate": LEARNING_RATE,
        "min_data_in_leaf": 30,
        "lambda_l2": 10.0,
        "feature_fraction": 0.7,
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
