"""What is not kept for ever: answers of repeated requests, and scores that newer ones followed long ago."""

from __future__ import annotations

from predictive_scoring.keeping.store.connection import Store
from predictive_scoring.keeping.store.idempotency import forget_expired
from predictive_scoring.keeping.store.scores import forget_superseded

AT_ONCE = 500
"""Rows of a step: other writers wait for one of them, some hundredths of a second."""


def forget_some(store: Store, now: int, keep_scores: int, limit: int = AT_ONCE) -> int:
    """One small step: answers that expired, and scores made more than `keep_scores` seconds before `now` (epoch
    seconds) that are not their lead's latest. How many rows; 0: nothing is left to forget."""
    answers = store.write(lambda tx: forget_expired(tx, now, limit))
    return answers + store.write(lambda tx: forget_superseded(tx, now - keep_scores, limit))
