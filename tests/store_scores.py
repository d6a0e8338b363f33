"""Scores for the tests of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from predictive_scoring.keeping.store.scores import Scored, append_scores
from predictive_scoring.schema import ModelReference, Reason, Score
from predictive_scoring.timeline import format_instant
from store_messages import NOON

if TYPE_CHECKING:
    from predictive_scoring.keeping.store.connection import Store

MODEL = ModelReference(name="small", version="1", bundle="sha256:aa")


def scored(lead_id: str, value: int = 50, at: int = 0, **more: Any) -> Scored:
    """A score as of `at` seconds past noon, and a vector."""
    more = {"status": "scored", "probability": value / 100, "score": value, "readiness": "nurture", **more}
    more.setdefault("reasons", (Reason(text="Viewed pricing – twice", direction="raises", points=4),))
    score = Score(
        lead_id=lead_id,
        as_of=format_instant(NOON + at),
        horizon_days=30,
        model=MODEL,
        **more,
    )
    return Scored(score, {"visits": 3.0, "country": "DE", "age": None})


def append(store: Store, *rows: Scored, at: int = 0) -> tuple[str, ...]:
    """Keep scores as made `at` seconds past noon; the ids of those that were not."""
    return store.write(lambda tx: append_scores(tx, rows, NOON + at))
