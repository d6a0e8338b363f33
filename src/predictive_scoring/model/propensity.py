"""The propensity model: a ridge logistic regression blended with a small LightGBM, chosen on the newest matured period.

    margin = w z_lgb + (1 - w) z_lr            (raw log-odds; calibration follows in ``calibration``)

Recipe (METHODS section 1, settled on public data in date order and on simulated worlds):

1. The recent rows are cut into time-ordered blocks; each is predicted by models fitted on everything before it. These
   out-of-fold margins are what "how it would have done lately" means.
2. Penalty and recency half-life of the ridge, then trees and blend weight ``w``, are chosen by the log-loss of those
   margins after a Platt fit, because calibration always follows. Ties within one standard error go to the simpler.
3. The chosen model is refitted on all rows. Calibrate it on the out-of-fold margins, never on its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from predictive_scoring.errors import TrainingImpossible
from predictive_scoring.model.booster import (
    Booster,
    booster_contributions,
    booster_margin,
    load_booster,
)
from predictive_scoring.model.columns import Column, encode, learn_columns
from predictive_scoring.model.folds import matured_rows, random_folds, time_blocks
from predictive_scoring.model.linear import LinearPart
from predictive_scoring.model.points import PointsCard
from predictive_scoring.model.search import Search, Trial
from predictive_scoring.model.tuning import Tuning, tuned

__all__ = [
    "Column",
    "PropensityModel",
    "Selection",
    "Trial",
    "learn_columns",
    "select_propensity",
]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PropensityModel:
    """A fitted propensity model. ``weight`` is the share w of the booster in [0, 1]; at 0 ``booster_text`` is empty."""

    columns: tuple[Column, ...]
    linear: LinearPart
    booster_text: str
    weight: float

    @cached_property
    def _booster(self) -> Booster:
        return load_booster(self.booster_text)

    def margin(self, frame: pd.DataFrame) -> Floats:
        """Return raw log-odds (n,) of the rows; every number may be NaN, every category None or unseen."""
        return self.encoded_margin(encode(frame, self.columns))

    def encoded_margin(self, encoded: Floats) -> Floats:
        """Return the same of encoded rows (n, k)."""
        margin = np.zeros(len(encoded))
        if self.weight < 1.0:
            margin = margin + (1.0 - self.weight) * self.linear.margin(encoded)
        if self.weight > 0.0:
            margin = margin + self.weight * booster_margin(self._booster, encoded, self.columns)
        return margin

    def contributions(self, frame: pd.DataFrame) -> tuple[float, Floats]:
        """Return (base, phi (n, k)), one column per Column: ``base + phi.sum(1) == margin`` to rounding (1e-12)."""
        encoded = encode(frame, self.columns)
        base, phi = 0.0, np.zeros((len(frame), len(self.columns)))
        if self.weight < 1.0:
            linear_base, linear_phi = self.linear.contributions(encoded)
            base += (1.0 - self.weight) * linear_base
            phi = phi + (1.0 - self.weight) * linear_phi
        if self.weight > 0.0:
            tree_base, tree_phi = booster_contributions(self._booster, encoded, self.columns)
            base += self.weight * tree_base
            phi = phi + self.weight * tree_phi
        return base, phi

    def to_document(self) -> dict[str, Any]:
        """Return all but ``booster_text`` as a JSON-able document; floats survive a round trip exactly."""
        return {
            "columns": [column.to_document() for column in self.columns],
            "linear": self.linear.to_document(),
            "weight": self.weight,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any], booster_text: str) -> PropensityModel:
        """Rebuild from :meth:`to_document` and the LightGBM text (trusted: check its hash first)."""
        columns = tuple(Column.from_document(c) for c in document["columns"])
        return cls(
            columns,
            LinearPart.from_document(document["linear"], columns),
            booster_text,
            float(document["weight"]),
        )


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
