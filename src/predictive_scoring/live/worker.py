"""The background worker: one round of small steps after another, each of which may be the last.

Fresh changes come first, then a step of a bulk job; leads whose scores are outdated, and what is kept no longer, have
their turn when nothing else waits. Several workers may run at once, and a killed one is missed by nobody: what it had
taken comes up again when its time is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from threading import Event, Thread
from typing import TYPE_CHECKING

from predictive_scoring.connectors.http import World
from predictive_scoring.connectors.webhooks_out import Endpoint
from predictive_scoring.errors import PredictiveScoringError, StoreUnavailable
from predictive_scoring.keeping.store.connection import Store
from predictive_scoring.keeping.store.facts import write_fact
from predictive_scoring.keeping.store.jobs import Job, give_back
from predictive_scoring.live.champion import ChampionFollower
from predictive_scoring.live.delivery import deliver_some
from predictive_scoring.live.jobs import claim_job, step_job
from predictive_scoring.live.rescoring import BATCH, LEASE, OUTDATED_AT_ONCE, mark_some_outdated, rescore_some
from predictive_scoring.live.retention import AT_ONCE, forget_some
from predictive_scoring.scoring import Scorer

if TYPE_CHECKING:
    import httpx

PAUSE = 0.5
"""Seconds between two looks when nothing waits."""
LONGEST_PAUSE = 30.0
"""Seconds between two tries while the store is not available, at most."""
HEARTBEAT = "worker"
"""The fact that says when a worker was last alive (epoch seconds)."""
EVERY_HEARTBEAT, EVERY_TELLING, EVERY_OUTDATED, EVERY_FORGETTING = 10.0, 10.0, 30.0, 300.0
"""Seconds."""

log = logging.getLogger("predictive_scoring.worker")


@dataclass
class Done:
    """What was done: leads scored because they changed and how many of these failed, leads of bulk jobs and jobs
    ended, leads marked as outdated, rows forgotten, messages delivered, tried in vain and given up."""

    rescored: int = 0
    failed: int = 0
    job_leads: int = 0
    jobs: int = 0
    outdated: int = 0
    forgotten: int = 0
    delivered: int = 0
    undelivered: int = 0
    dead: int = 0

    def add(self, other: Done) -> None:
        """Sum up."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    def __bool__(self) -> bool:
        """Whether anything was done."""
        return any(getattr(self, each.name) for each in fields(self))


class Worker:
    """One worker on a store. `name` is its own among all workers; `keep_scores` are seconds (see `retention`)."""

    def __init__(
        self,
        store: Store,
        follower: ChampionFollower,
        world: World,
        *,
        name: str,
        keep_scores: int,
        endpoints: Sequence[Endpoint] = (),
        lease: int = LEASE,
        limit: int = BATCH,
    ) -> None:
        self.store, self.follower, self.world, self.name = store, follower, world, name
        self.keep_scores, self.endpoints = keep_scores, endpoints
        self.lease, self.limit = lease, limit
        self.scorer: Scorer | None = None
        self._destinations = tuple(endpoint.name for endpoint in endpoints)
        self._job: Job | None = None
        self._refused: PredictiveScoringError | None = None
        self._due: dict[str, float] = {}
        self._untold = Done()

    def round(self) -> Done:
        """One round of small steps. Raises StoreUnavailable; the next round then goes on where this one stopped."""
        now = int(self.world.now())
        if self._is_due("heartbeat", EVERY_HEARTBEAT):
            self.store.write(lambda tx: write_fact(tx, HEARTBEAT, str(now)))
        self._follow()
        done = Done()
        if self.scorer is not None:
            done.add(self._score(self.scorer, now))
        if not done and self._is_due("forgetting", EVERY_FORGETTING):
            done.forgotten = forget_some(self.store, now, self.keep_scores)
            if done.forgotten >= AT_ONCE:
                self._due.pop("forgetting")
        self._tell(done)
        return done

    def _tell(self, done: Done) -> None:
        """One line per burst of work, and every few seconds of a long one."""
        self._untold.add(done)
        if self._untold and (not done or self._is_due("telling", EVERY_TELLING)):
            log.info("worked", extra={each: value for each, value in vars(self._untold).items() if value})
            self._untold = Done()

    def _score(self, scorer: Scorer, now: int) -> Done:
        done = Done()
        done.rescored, done.failed = rescore_some(
            self.store, scorer, now, self._destinations, limit=self.limit, lease=self.lease
        )
        done.add(self._step_job(scorer, now))
        if not done and self._is_due("outdated", EVERY_OUTDATED):
            done.outdated = mark_some_outdated(self.store, scorer, now)
            if done.outdated >= OUTDATED_AT_ONCE:
                self._due.pop("outdated")
        return done

    def _step_job(self, scorer: Scorer, now: int) -> Done:
        job = self._job or claim_job(self.store, self.name, now, self.lease)
        self._job = job
        if job is None:
            return Done()
        self._job = step_job(
            self.store, scorer, job, self.name, now, self._destinations, limit=self.limit, lease=self.lease
        )
        if self._job is None:
            return Done(jobs=1)
        return Done(job_leads=self._job.done - job.done)

    def _follow(self) -> None:
        scorer = self.follower.look(self.world.monotonic())
        if scorer is not None:
            self.scorer = scorer
            self._due.pop("outdated", None)
            log.info("champion_followed", extra={"bundle": scorer.identity, "version": scorer.version})
        refused = self.follower.refused
        if refused is not None and refused is not self._refused:
            log.error("champion_refused", extra={"error": refused.name, "error_says": str(refused)})
        self._refused = refused

    def _is_due(self, what: str, every: float) -> bool:
        moment = self.world.monotonic()
        if moment < self._due.get(what, moment):
            return False
        self._due[what] = moment + every
        return True

    def deliver(self, client: httpx.Client) -> Done:
        """One round of webhooks. Raises StoreUnavailable."""
        found = deliver_some(self.store, self.endpoints, client, self.world)
        done = Done(delivered=found.sent, undelivered=found.failed, dead=found.dead)
        if done:
            log.info("delivered", extra={each: value for each, value in vars(done).items() if value})
        return done

    def let_go(self) -> None:
        """Give back what is still ours, so that another worker need not wait for it. Raises StoreUnavailable."""
        job, self._job = self._job, None
        if job is not None:
            self.store.write(lambda tx: give_back(tx, job, self.name))


def work_off(worker: Worker, client: httpx.Client | None) -> Done:
    """Work until nothing is left that could be done now. Raises StoreUnavailable, and what refuses the champion."""
    total = Done()
    while done := worker.round():
        total.add(done)
    if worker.scorer is None:
        raise worker.follower.refused or _no_champion(worker)
    while client is not None and (done := worker.deliver(client)):
        total.add(done)
    return total


def _no_champion(worker: Worker) -> PredictiveScoringError:
    try:
        worker.follower.store.champion()
    except PredictiveScoringError as refused:
        return refused
    raise AssertionError("a champion that is there is taken up or refused")


def work(worker: Worker, client: httpx.Client | None, stop: Event) -> None:
    """Work until `stop` is set; the step under way is finished. The store may come and go.

    Webhooks have a thread of their own: a receiver that does not answer holds up nobody else."""
    threads = []
    if client is not None and worker.endpoints:
        threads.append(Thread(target=_deliver, args=(worker, client, stop), name="delivering"))
    for thread in threads:
        thread.start()
    try:
        _repeat(worker.round, stop)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    try:
        worker.let_go()
    except StoreUnavailable as refused:
        log.warning("store_unavailable", extra={"error_says": str(refused)})


def _deliver(worker: Worker, client: httpx.Client, stop: Event) -> None:
    try:
        _repeat(lambda: worker.deliver(client), stop)
    finally:
        # A worker that delivers no more must not look as if it did.
        stop.set()


def _repeat(step: Callable[[], Done], stop: Event) -> None:
    pause = PAUSE
    while not stop.is_set():
        try:
            done = step()
        except StoreUnavailable as refused:
            log.warning("store_unavailable", extra={"error_says": str(refused), "again_in_s": pause})
            stop.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            continue
        pause = PAUSE
        if not done:
            stop.wait(PAUSE)
