"""The choice of a propensity model on the newest matured period: which ridge, which trees, in which shares.

Recipe (METHODS section 1, settled on public data in date order and on simulated worlds):

1. The recent rows are cut into time-ordered blocks; each is predicted by models fitted on everything before it. These
   out-of-fold margins are what "how it would have done lately" means.
2. Penalty and recency half-life of the ridge, then trees and blend weight ``w``, are chosen by the log-loss of those
   margins after a Platt fit, because calibration always follows. Ties within one standard error go to the simpler.
3. The chosen model is refitted on all rows. Calibrate it on the out-of-fold margins, never on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from predictive_scoring.errors import TrainingImpossible
from predictive_scoring.model.columns import Column, encode
from predictive_scoring.model.folds import matured_rows, random_folds, time_blocks
from predictive_scoring.model.points import PointsCard
from predictive_scoring.model.propensity import PropensityModel
from predictive_scoring.model.search import Search, Trial
from predictive_scoring.model.tuning import Tuning, tuned

__all__ = ["Selection", "Trial", "select_propensity"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Selection:
    """The outcome of :func:`select_propensity`.

    ``model`` is fitted on train and recent rows; ``recent_margin`` (n_recent,) are out-of-fold margins of the chosen
    settings, the only honest input for calibration; ``trials`` is every candidate tried and ``chosen`` the winner.
    ``encoded`` (n, k), ``y`` and ``weight`` (n,) are all rows, train before recent, as the model was fitted on them.
    """

    model: PropensityModel
    recent_margin: Floats
    chosen: Trial
    trials: tuple[Trial, ...]
    encoded: Floats
    y: Floats
    weight: Floats


def select_propensity(
    train_X: pd.DataFrame,
    train_y: npt.ArrayLike,
    recent_X: pd.DataFrame,
    recent_y: npt.ArrayLike,
    columns: Sequence[Column],
    *,
    seed: int,
    recent_times: npt.ArrayLike | None = None,
    train_weight: npt.ArrayLike | None = None,
    recent_weight: npt.ArrayLike | None = None,
    card: PointsCard | None = None,
    recent_ends: npt.ArrayLike | None = None,
    recent_leads: npt.ArrayLike | None = None,
    ordered: bool = True,
    tuning: Tuning | None = None,
) -> Selection:
    """Choose and fit the propensity model.

    All rows in time order, recent after train. ``columns`` should be learned on train and recent rows together (a
    vocabulary holds no outcome). ``recent_times`` (n_recent,), sorted, keeps rows of one time in one block;
    ``*_weight`` are row weights of mean about 1, such as censoring weights; ``card`` is the points card that the ridge
    starts from. ``recent_ends`` (n_recent,), ends of the label windows on the clock of ``recent_times``, keeps a block
    from learning outcomes that were not known when it began (see `folds.matured_rows`).

    Rows without an order in time (``ordered=False``) are predicted in random folds, those of one lead
    (``recent_leads``) together; there may then be no train rows. ``tuning`` asks for a wider search with a budget.

    Raises TrainingImpossible if train (unless there are none, unordered) or recent rows hold fewer than two classes, or
    if there is no column.
    """
    y_recent = _outcomes(recent_y, "recent rows")
    y_train = np.zeros(0)
    if ordered or len(train_X):
        y_train = _outcomes(train_y, "training rows")
    if not columns:
        raise TrainingImpossible(
            what="there is no column to learn from",
            where="columns",
            remedy="declare at least one feature or attribute",
        )
    y = np.concatenate([y_train, y_recent])
    encoded = np.vstack([encode(train_X, columns), encode(recent_X, columns)])
    weight = np.concatenate(
        [_row_weights(train_weight, len(y_train)), _row_weights(recent_weight, len(y_recent))]
    )
    first = len(y_train)
    order = np.arange(len(y))
    if ordered:
        edges = time_blocks(y_recent, recent_times, first)
        training = None
        if recent_times is not None and recent_ends is not None:
            training = matured_rows(edges, recent_times, recent_ends)
        search = Search(encoded, y, weight, tuple(columns), seed, edges, card, training)
    else:
        dealt, borders = random_folds(y_recent, recent_leads, seed)
        order[first:] = first + dealt
        edges = tuple(first + border for border in borders)
        training = tuple(
            np.concatenate([np.arange(low), np.arange(high, len(y))]) for low, high in pairwise(edges)
        )
        search = Search(
            encoded[order],
            y[order],
            weight[order],
            tuple(columns),
            seed,
            edges,
            card,
            training,
            drifting=False,
        )
    found = search.run() if tuning is None else tuned(search, tuning)
    recent_margin = np.empty(len(y_recent))
    recent_margin[order[first:] - first] = found.recent_margin
    model = PropensityModel(tuple(columns), found.linear, found.booster_text, found.chosen.weight)
    fitted_weight = np.empty(len(y))
    fitted_weight[order] = search.recency(np.arange(len(y)), found.chosen.half_life)
    return Selection(model, recent_margin, found.chosen, found.trials, encoded, y, fitted_weight)


def _outcomes(y: npt.ArrayLike, where: str) -> Floats:
    values = np.asarray(y, dtype=np.float64)
    if not np.isin(values, (0.0, 1.0)).all():
        raise TrainingImpossible(
            what="an outcome is neither 0 nor 1", where=where, remedy="drop censored rows before training"
        )
    if len(np.unique(values)) < 2:
        raise TrainingImpossible(
            what=f"all {len(values)} rows have the same outcome",
            where=where,
            remedy="use a longer period so that both converted and unconverted leads occur",
        )
    return values


def _row_weights(weight: npt.ArrayLike | None, n: int) -> Floats:
    return np.ones(n) if weight is None else np.asarray(weight, dtype=np.float64)
