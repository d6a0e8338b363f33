"""What is true of the service while somebody asks for `/metrics`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from predictive_scoring.errors import PredictiveScoringError

from .metrics import Moment, StoreNumbers
from .state import ServingState

if TYPE_CHECKING:
    from predictive_scoring.keeping.store.connection import Transaction

log = logging.getLogger("predictive_scoring.serving")


def moment_of(state: ServingState, now: int) -> Moment:
    """Readiness, model and what waits in the store at `now` (epoch seconds). Waits for the store: call it in a thread.

    A store that cannot be read is an answer, not an error."""
    serving, store, numbers = state.serving, state.store, None
    if store is not None:
        try:
            numbers = store.read(lambda tx: store_numbers(tx, now))
        except PredictiveScoringError as unread:
            log.warning("the store does not answer for /metrics", extra={"error": unread.name})
    model = None
    if serving is not None:
        reference = serving.scorer.reference
        model = (reference.name, reference.version or "", reference.bundle)
    goes_on = serving is not None and state.refused is not None
    return Moment(serving is not None, state.stopping, model, state.swaps, goes_on, numbers)


def store_numbers(tx: Transaction, now: int) -> StoreNumbers:
    """What waits, and how long (seconds)."""
    from predictive_scoring.keeping.store.facts import read_fact
    from predictive_scoring.keeping.store.outbox import outbox_counts
    from predictive_scoring.keeping.store.rescoring import backlog

    queue, (waiting, dead), beat = backlog(tx, now), outbox_counts(tx), read_fact(tx, "worker")
    return StoreNumbers(
        backlog=queue.waiting,
        backlog_age=None if queue.oldest is None else max(0, now - queue.oldest),
        outbox_waiting=waiting,
        outbox_dead=dead,
        worker_age=None if beat is None else max(0, now - int(beat)),
    )
