"""The propensity model: a ridge logistic regression blended with a small LightGBM.

    margin = w z_lgb + (1 - w) z_lr            (raw log-odds; calibration follows in ``calibration``)

How it is chosen and fitted: ``selection``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from predictive_scoring.model.columns import Column, encode
from predictive_scoring.model.linear import LinearPart
from predictive_scoring.model.trees import Trees

if TYPE_CHECKING:
    import lightgbm
    import pandas as pd

Floats = npt.NDArray[np.float64]

FEW_ROWS = 2000
"""So many rows are read one by one; LightGBM takes a tenth of the time for each, once it is loaded."""


@dataclass(frozen=True)
class PropensityModel:
    """A fitted propensity model. ``weight`` is the share w of the booster in [0, 1]; at 0 ``booster_text`` is empty."""

    columns: tuple[Column, ...]
    linear: LinearPart
    booster_text: str
    weight: float

    @cached_property
    def _booster(self) -> lightgbm.Booster:
        """LightGBM's own reading of the trees: quick for thousands of rows, but it takes a second and 70 MB to load."""
        from predictive_scoring.model.booster import load_booster

        return load_booster(self.booster_text)

    @cached_property
    def trees(self) -> Trees:
        """Our reading of the trees: quick for one row."""
        return Trees.read(self.booster_text, self.columns)

    def margin(self, frame: pd.DataFrame) -> Floats:
        """Return raw log-odds (n,) of the rows; every number may be NaN, every category None or unseen."""
        return self.encoded_margin(encode(frame, self.columns))

    def encoded_margin(self, encoded: Floats) -> Floats:
        """Return the same of encoded rows (n, k)."""
        margin = np.zeros(len(encoded))
        if self.weight < 1.0:
            margin = margin + (1.0 - self.weight) * self.linear.margin(encoded)
        if self.weight > 0.0:
            margin = margin + self.weight * self._tree_margin(encoded)
        return margin

    def _tree_margin(self, encoded: Floats) -> Floats:
        # Equal to the last bit, so that the choice is about time alone.
        if len(encoded) <= FEW_ROWS:
            trees = self.trees
            return np.array([trees.margin(trees.ways(row)) for row in encoded])
        from predictive_scoring.model.booster import booster_margin

        return booster_margin(self._booster, encoded, self.columns)

    def contributions(self, frame: pd.DataFrame) -> tuple[float, Floats]:
        """Return (base, phi (n, k)), one column per Column: ``base + phi.sum(1) == margin`` to rounding (1e-12)."""
        return self.encoded_contributions(encode(frame, self.columns))

    def encoded_contributions(self, encoded: Floats) -> tuple[float, Floats]:
        """Return the same of encoded rows (n, k)."""
        base, phi, _ = self.compared(encoded, encoded[:0])
        return base, phi

    def compared(self, now: Floats, before: Floats) -> tuple[float, Floats, Floats]:
        """Return :meth:`encoded_contributions` of rows, and :meth:`encoded_margin` of what they were before."""
        base, phi, margin = 0.0, np.zeros(now.shape), np.zeros(len(before))
        if self.weight < 1.0:
            linear_base, linear_phi, linear_margin = self.linear.compared(now, before)
            base += (1.0 - self.weight) * linear_base
            phi = phi + (1.0 - self.weight) * linear_phi
            margin = margin + (1.0 - self.weight) * linear_margin
        if self.weight > 0.0:
            tree_base, tree_phi = self._tree_contributions(now)
            base += self.weight * tree_base
            phi = phi + self.weight * tree_phi
            margin = margin + self.weight * self._tree_margin(before)
        return base, phi, margin

    def _tree_contributions(self, encoded: Floats) -> tuple[float, Floats]:
        tables = self.trees.tables
        if tables is not None:
            phi = np.empty((len(encoded), len(self.columns)))
            for number, row in enumerate(encoded):
                phi[number] = tables.contributions(self.trees.ways(row))
            return tables.base, phi
        from predictive_scoring.model.booster import booster_contributions

        return booster_contributions(self._booster, encoded, self.columns)

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
