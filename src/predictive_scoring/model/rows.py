"""Rows of outcomes and probabilities, which every measure of quality reads: checked, their losses, equal bins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

ECE_BINS = 15
_TINY = 1e-15


def checked_rows(y: npt.ArrayLike, p: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Outcomes (n,) of 0/1 and probabilities (n,) as floats.

    Raises ValueError for empty or unequal input, outcomes other than 0/1 and probabilities outside [0, 1]."""
    outcome, probability = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    if outcome.ndim != 1 or outcome.shape != probability.shape or len(outcome) == 0:
        raise ValueError(
            f"need two non-empty rows of equal length, not shapes {outcome.shape}, {probability.shape}"
        )
    if not np.isin(outcome, (0.0, 1.0)).all():
        raise ValueError("outcomes must be 0 or 1; drop censored rows first")
    if not ((probability >= 0.0) & (probability <= 1.0)).all():
        raise ValueError("probabilities must lie in [0, 1]")
    return outcome, probability


def row_losses(y: npt.ArrayLike, p: npt.ArrayLike) -> Floats:
    """Return the log-loss of each row (n,), natural log."""
    outcome = np.asarray(y, dtype=np.float64)
    probability = np.clip(np.asarray(p, dtype=np.float64), _TINY, 1.0 - _TINY)
    result: Floats = -(outcome * np.log(probability) + (1.0 - outcome) * np.log1p(-probability))
    return result


def equal_bins(ranked: Floats, bins: int = ECE_BINS) -> Whole:
    """First places of at most ``bins`` bins of equal count among values in rising order (n,). Equal values are never
    split between bins, so that nothing depends on the order of rows."""
    edges = np.linspace(0, len(ranked), min(bins, len(ranked)) + 1).astype(int)[1:-1]
    starts: Whole = np.unique(np.concatenate([[0], np.searchsorted(ranked, ranked[edges], side="left")]))
    return starts
