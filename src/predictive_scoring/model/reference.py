"""What the training population looked like, feature by feature: the yardstick for "more than 85 % of
leads", for drift, and for drawing synthetic leads. Holds quantiles and shares, never a lead's row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

QUANTILES = tuple(step / 20 for step in range(21))
MIN_LEVEL_COUNT = 20
"""A category seen in fewer rows is not listed: a rare level could name a person."""


@dataclass(frozen=True)
class FeatureReference:
    """One feature: share of missing values; 21 quantiles (numbers) or shares of frequent levels."""

    missing: float
    quantiles: tuple[float, ...] = ()
    levels: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Reference:
    """The reference distributions by feature name, from `rows` rows."""

    rows: int
    features: Mapping[str, FeatureReference]

    def to_document(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "features": {
                name: {
                    "missing": entry.missing,
                    "quantiles": list(entry.quantiles),
                    "levels": dict(entry.levels) if entry.levels is not None else None,
                }
                for name, entry in self.features.items()
            },
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            int(document["rows"]),
            {
                name: FeatureReference(entry["missing"], tuple(entry["quantiles"]), entry["levels"])
                for name, entry in document["features"].items()
            },
        )


def learn_reference(frame: pd.DataFrame, kinds: Mapping[str, str]) -> Reference:
    """The distributions of `frame` (one column per feature; `kinds` says number or category)."""
    features = {}
    for name, kind in kinds.items():
        column = frame[name]
        missing = float(column.isna().mean()) if len(column) else 1.0
        present = column.dropna()
        if kind == "number":
            quantiles = (
                tuple(float(value) for value in np.quantile(present.to_numpy(dtype=float), QUANTILES))
                if len(present)
                else ()
            )
            features[name] = FeatureReference(missing, quantiles)
        else:
            counts = present.astype(str).value_counts()
            kept = counts[counts >= MIN_LEVEL_COUNT]
            levels = {str(level): float(count / len(column)) for level, count in sorted(kept.items())}
            features[name] = FeatureReference(missing, levels=levels)
    return Reference(len(frame), features)


def synthetic_frame(reference: Reference, rows: int, seed: int) -> pd.DataFrame:
    """Rows drawn feature by feature from the reference, missing and unseen values among them. They belong
    to nobody: features are independent of each other here."""
    draw = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    for name, entry in reference.features.items():
        absent = draw.random(rows) < max(entry.missing, 0.1)
        if entry.levels is None:
            picked = (
                np.interp(draw.random(rows), QUANTILES, entry.quantiles)
                if entry.quantiles
                else np.full(rows, np.nan)
            )
            columns[name] = np.where(absent, np.nan, picked)
        else:
            levels = np.array([*entry.levels, "a level never seen"], dtype=object)
            picked = levels[draw.integers(0, len(levels), rows)]
            picked[absent] = None
            columns[name] = picked
    return pd.DataFrame(columns)
