"""Predictive lead scoring and lead nurturing: point-in-time features, calibrated and explained scores,
nurture decisions. See docs/README.md; the shortest way in is `predictive_scoring.scoring.Scorer`, and for a table of
one's own `predictive_scoring.LeadScorer`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from predictive_scoring.model.estimator import LeadScorer

__version__ = "0.1.0"
__all__ = ["LeadScorer", "__version__"]

# Idle OpenMP threads spin by default, which made two threads 12-30 times slower than one on a shared machine. The
# variable is read when the first library with threads is loaded (LightGBM, scikit-learn): it must be set before.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def __getattr__(name: str) -> Any:
    # The learners take seconds to load, and most uses of the package need none.
    if name == "LeadScorer":
        from predictive_scoring.model.estimator import LeadScorer

        return LeadScorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
