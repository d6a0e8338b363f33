"""Keeps a sample of the served feature vectors for `predictive-scoring replay`. Never at the cost of a score."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter

from predictive_scoring.keeping.vectors import FOLDER, ServedVector, Source, VectorLog, sample
from predictive_scoring.schema import Score

if TYPE_CHECKING:
    from predictive_scoring.scoring import Served

log = logging.getLogger("predictive_scoring.serving")


class KeptVectors:
    """Keeps `share` (0 to 1) of the vectors under `models`. `counted` goes into the service's metrics."""

    def __init__(self, models: Path, share: float) -> None:
        self.models, self.share = models, share
        self.counted = Counter(
            "predictive_scoring_vectors",
            "Sampled feature vectors: kept for replay, left out because the day's file is full, lost to the disk",
            ("outcome",),
            registry=None,
        )
        self._told = False

    def keeping(self, source: Source, served_at: int) -> Served | None:
        """What a scorer tells vectors to; None where none are kept."""
        if self.share <= 0:
            return None

        def keep(scores: Sequence[Score], values: Sequence[Mapping[str, Any]]) -> None:
            vectors = sample(scores, values, share=self.share, source=source, served_at=served_at)
            if vectors:
                self._append(scores[0].model.name, vectors)

        return keep

    def _append(self, project: str, vectors: Sequence[ServedVector]) -> None:
        outcome = VectorLog(self.models / project / FOLDER).append(vectors)
        for name in ("kept", "full", "lost"):
            self.counted.labels(name).inc(getattr(outcome, name))
        if outcome.lost and not self._told:
            log.warning("served vectors cannot be kept: %s (scores are not affected)", outcome.reason)
        # Once for every time it begins: a full disk would otherwise fill the log as well.
        self._told = bool(outcome.lost)
