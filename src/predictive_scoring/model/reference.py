"""What the training population looked like, feature by feature: the yardstick for "more than 85 % of
leads", for drift, and for drawing synthetic leads. Holds quantiles and shares, never a lead's row.

Drift has a yardstick of its own, `newcomers`: in a log that has only begun, leads grow older from month to month
without anything having changed, so only leads of an equal age can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

QUANTILES = tuple(step / 20 for step in range(21))
MIN_LEVEL_COUNT = 20
"""A category seen in fewer rows is not listed: a rare level could name a person."""


@dataclass(frozen=True)
class FeatureReference:
    """One feature: share of missing values; 21 quantiles (numbers) or shares of frequent levels.

    `edges` are the distinct deciles of a number, `shares` (one more) the shares of rows up to each edge and above
    the last. Bundles of an earlier version have neither."""

    missing: float
    quantiles: tuple[float, ...] = ()
    levels: Mapping[str, float] | None = None
    edges: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()


@dataclass(frozen=True)
class Reference:
    """The reference distributions by feature name, from `rows` rows of `leads` leads (None: not counted).

    `score_shares` (99, or none) is the share of rows at each score. `newcomers` are the same distributions among
    rows of leads that had only just arrived (`data.population`); None in bundles of an earlier version."""

    rows: int
    features: Mapping[str, FeatureReference]
    leads: int | None = None
    score_shares: tuple[float, ...] = ()
    newcomers: Reference | None = None

    @property
    def independent_rows(self) -> int:
        """How many rows there are as far as chance is concerned: several cutoffs of one lead are alike."""
        return self.rows if self.leads is None else self.leads

    def to_document(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "leads": self.leads,
            "score_shares": list(self.score_shares),
            "features": {
                name: {
                    "missing": entry.missing,
                    "quantiles": list(entry.quantiles),
                    "levels": dict(entry.levels) if entry.levels is not None else None,
                    "edges": list(entry.edges),
                    "shares": list(entry.shares),
                }
                for name, entry in self.features.items()
            },
            "newcomers": None if self.newcomers is None else self.newcomers.to_document(),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        newcomers = document.get("newcomers")
        return cls(
            int(document["rows"]),
            {
                name: FeatureReference(
                    entry["missing"],
                    tuple(entry["quantiles"]),
                    entry["levels"],
                    tuple(entry.get("edges", ())),
                    tuple(entry.get("shares", ())),
                )
                for name, entry in document["features"].items()
            },
            document.get("leads"),
            tuple(document.get("score_shares", ())),
            None if newcomers is None else cls.from_document(newcomers),
        )


def learn_reference(
    frame: pd.DataFrame,
    kinds: Mapping[str, str],
    *,
    leads: npt.ArrayLike | None = None,
    scores: npt.ArrayLike | None = None,
    newcomers: npt.ArrayLike | None = None,
) -> Reference:
    """The distributions of `frame` (one column per feature; `kinds` says number or category).

    Row by row alongside, each optional: `leads` are lead ids, `scores` whole numbers 1..99, `newcomers` is True where
    the lead had only just arrived."""
    import pandas as pd

    ids = None if leads is None else np.asarray(leads)
    given = None if scores is None else np.asarray(scores, dtype=np.int64)
    among = None
    if newcomers is not None:
        chosen = np.asarray(newcomers, dtype=bool)
        among = learn_reference(
            frame[chosen],
            kinds,
            leads=None if ids is None else ids[chosen],
            scores=None if given is None else given[chosen],
        )
    return Reference(
        len(frame),
        _features(frame, kinds),
        None if ids is None else len(pd.unique(ids)),
        () if given is None or not len(given) else _shares(given),
        among,
    )


def _shares(scores: npt.NDArray[np.int64]) -> tuple[float, ...]:
    counts = np.bincount(scores, minlength=100)[1:]
    return tuple(float(share) for share in counts / len(scores))


def _features(frame: pd.DataFrame, kinds: Mapping[str, str]) -> dict[str, FeatureReference]:
    features = {}
    for name, kind in kinds.items():
        column = frame[name]
        missing = float(column.isna().mean()) if len(column) else 1.0
        present = column.dropna()
        if kind == "number":
            if present.empty:
                features[name] = FeatureReference(missing)
                continue
            values = present.to_numpy(dtype=float)
            quantiles = np.quantile(values, QUANTILES)
            edges = np.unique(quantiles[2:-2:2])
            placed = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
            features[name] = FeatureReference(
                missing,
                tuple(quantiles.tolist()),
                edges=tuple(edges.tolist()),
                shares=tuple((placed / len(column)).tolist()),
            )
        else:
            counts = present.astype(str).value_counts()
            kept = counts[counts >= MIN_LEVEL_COUNT]
            levels = {str(level): float(count / len(column)) for level, count in sorted(kept.items())}
            features[name] = FeatureReference(missing, levels=levels)
    return features


def synthetic_frame(reference: Reference, rows: int, seed: int) -> pd.DataFrame:
    """Rows drawn feature by feature from the reference, missing and unseen values among them. They belong
    to nobody: features are independent of each other here."""
    import pandas as pd

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
