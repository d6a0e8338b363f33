"""Bulk jobs of kind `score`, step by step: a step's scores and the job's progress are one transaction.

A job's parameters may hold `as_of` (epoch seconds); without it each step scores as far as the store knows.
"""

from __future__ import annotations

from predictive_scoring.errors import InvalidValue
from predictive_scoring.keeping.store.connection import Store, Transaction
from predictive_scoring.keeping.store.jobs import Job, advance, finish, next_leads, take_job
from predictive_scoring.live.delivery import Destinations
from predictive_scoring.live.kept import keep, score_all, to_keep
from predictive_scoring.live.rescoring import BATCH, LEASE
from predictive_scoring.scoring import Scorer

SCORE = "score"


class _NotOurs(Exception):
    """Another worker goes on with the job, or it was cancelled."""


def claim_job(store: Store, worker: str, now: int, lease: int = LEASE) -> Job | None:
    """A job to work on; one of a kind that nobody knows is ended at once. Raises StoreUnavailable."""

    def work(tx: Transaction) -> Job | None:
        while (job := take_job(tx, worker, now, lease)) is not None and job.kind != SCORE:
            finish(tx, job, worker, now=now, error=InvalidValue.__name__)
        return job

    return store.write(work)


def step_job(
    store: Store,
    scorer: Scorer,
    job: Job,
    worker: str,
    now: int,
    destinations: Destinations = (),
    *,
    limit: int = BATCH,
    lease: int = LEASE,
) -> Job | None:
    """Score the job's next leads; the job as it stands then. None: it is done, or not ours any more.

    `now` is epoch seconds. Leads that are unknown, or whose scoring fails, count as failed. Raises StoreUnavailable:
    nothing of the step is then kept."""
    leads = store.read(lambda tx: next_leads(tx, job, limit))
    if not leads:
        store.write(lambda tx: finish(tx, job, worker, now=now))
        return None
    ids = [lead_id for _, lead_id in leads]
    found = score_all(store, scorer, ids, job.parameters.get("as_of"))
    scored = to_keep(found, scorer)
    failed = sum(found.of(one) is None for one in ids)

    def write(tx: Transaction) -> Job:
        advanced = advance(tx, job, worker, done=leads[-1][0], failed=failed, now=now, lease=lease)
        if advanced is None:
            raise _NotOurs
        keep(tx, scored, destinations, now)
        return advanced

    try:
        return store.write(write)
    except _NotOurs:
        return None
