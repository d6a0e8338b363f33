"""Jobs over many leads, such as bulk scoring: with progress, and resumed where they stopped.

A worker claims a job for a while and renews the claim with each step. A step's scores and its progress are kept
in one transaction, so a job that was killed goes on behind its last step, and no lead is done twice.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import and_, func, insert, literal, or_, select, update

from predictive_scoring.errors import UnknownJob
from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.connection import Transaction

State = Literal["queued", "running", "done", "failed", "cancelled"]
_OPEN = ("queued", "running")


@dataclass(frozen=True)
class Job:
    """A job and how far it is: `done` of `total` leads, `failed` of them without an answer. Epoch seconds."""

    job_id: str
    kind: str
    state: State
    parameters: Mapping[str, Any]
    total: int
    done: int
    failed: int
    created: int
    created_by: str
    finished: int | None
    error: str | None


def create_job(
    tx: Transaction,
    kind: str,
    parameters: Mapping[str, Any],
    *,
    now: int,
    actor: str,
    lead_ids: Sequence[str] | None = None,
) -> Job:
    """A queued job over these leads, in this order; without them over every known lead of this moment.

    `parameters` must hold nothing personal."""
    job_id = secrets.token_hex(8)
    table, leads = tables.job_leads, tables.leads
    if lead_ids is None:
        place = func.row_number().over(order_by=leads.c.lead_id)
        chosen = select(literal(job_id), place, leads.c.lead_id).where(leads.c.identified)
        tx.execute(insert(table).from_select(["job_id", "place", "lead_id"], chosen))
    else:
        wanted = dict.fromkeys(lead_ids)
        rows = [{"job_id": job_id, "place": at, "lead_id": one} for at, one in enumerate(wanted, start=1)]
        tx.insert_rows(table, rows)
    total = tx.rows(select(func.count()).select_from(table).where(table.c.job_id == job_id))[0][0]
    row = {
        "job_id": job_id,
        "kind": kind,
        "state": "queued",
        "parameters": json.dumps(dict(parameters), sort_keys=True),
        "total": int(total),
        "done": 0,
        "failed": 0,
        "created": now,
        "created_by": actor,
        "claimed_until": 0,
    }
    tx.execute(tables.jobs.insert(), row)
    return read_job(tx, job_id)


def read_job(tx: Transaction, job_id: str) -> Job:
    """The job. Raises UnknownJob."""
    found = tx.rows(select(tables.jobs).where(tx.among(tables.jobs.c.job_id, [job_id])))
    if not found:
        raise UnknownJob(
            what="no job has this id", where="job_id", remedy="Use the id that the job's creation answered."
        )
    return _job(found[0])


def list_jobs(tx: Transaction, limit: int = 50) -> tuple[Job, ...]:
    """The newest jobs first."""
    jobs = tables.jobs
    newest = select(jobs).order_by(jobs.c.created.desc(), jobs.c.job_id).limit(limit)
    return tuple(_job(row) for row in tx.rows(newest))


def take_job(tx: Transaction, worker: str, now: int, lease: int) -> Job | None:
    """The oldest job that nobody works on, ours for `lease` seconds; None: there is nothing to do."""
    jobs = tables.jobs
    found = tx.rows(
        select(jobs.c.job_id)
        .where(jobs.c.state.in_(_OPEN), jobs.c.claimed_until <= now)
        .order_by(jobs.c.created, jobs.c.job_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if not found:
        return None
    claim = {"state": "running", "claimed_by": worker, "claimed_until": now + lease}
    tx.execute(update(jobs).where(jobs.c.job_id == found[0].job_id).values(**claim))
    return read_job(tx, found[0].job_id)


def next_leads(tx: Transaction, job: Job, limit: int) -> tuple[tuple[int, str], ...]:
    """(place, lead id) of the leads that come next; erased ones are not among them. Empty: all are done."""
    table = tables.job_leads
    rows = tx.rows(
        select(table.c.place, table.c.lead_id)
        .where(table.c.job_id == job.job_id, table.c.place > job.done)
        .order_by(table.c.place)
        .limit(limit)
    )
    return tuple((int(row.place), row.lead_id) for row in rows)


def advance(
    tx: Transaction, job: Job, worker: str, *, done: int, failed: int, now: int, lease: int
) -> Job | None:
    """Note that everything up to place `done` is done, `failed` of this step without an answer, and keep the claim.

    None, and nothing noted: the job is not ours any more (cancelled, or another worker's); roll this step back."""
    jobs = tables.jobs
    mine = and_(
        jobs.c.job_id == job.job_id,
        jobs.c.claimed_by == worker,
        jobs.c.state == "running",
        jobs.c.done == job.done,
    )
    values = {"done": done, "failed": jobs.c.failed + failed, "claimed_until": now + lease}
    found = tx.rows(update(jobs).where(mine).values(**values).returning(*jobs.c))
    return _job(found[0]) if found else None


def give_back(tx: Transaction, job: Job, worker: str) -> None:
    """Anybody may go on with the job at once."""
    jobs = tables.jobs
    mine = and_(jobs.c.job_id == job.job_id, jobs.c.claimed_by == worker, jobs.c.state == "running")
    tx.execute(update(jobs).where(mine).values(claimed_until=0))


def finish(tx: Transaction, job: Job, worker: str, *, now: int, error: str | None = None) -> bool:
    """End the job, well or with the name of an error; False: it is not ours any more."""
    jobs = tables.jobs
    mine = and_(jobs.c.job_id == job.job_id, jobs.c.claimed_by == worker, jobs.c.state == "running")
    ended: dict[str, Any] = {"state": "failed" if error else "done", "finished": now, "error": error}
    if error is None:
        # Leads that were erased meanwhile leave holes behind the last one that was there.
        ended["done"] = jobs.c.total
    return bool(tx.rows(update(jobs).where(mine).values(**ended).returning(jobs.c.job_id)))


def cancel(tx: Transaction, job_id: str, now: int) -> Job:
    """End the job unless it has ended. Raises UnknownJob."""
    jobs = tables.jobs
    is_open = and_(tx.among(jobs.c.job_id, [job_id]), or_(*(jobs.c.state == state for state in _OPEN)))
    tx.execute(update(jobs).where(is_open).values(state="cancelled", finished=now))
    return read_job(tx, job_id)


def _job(row: Any) -> Job:
    return Job(
        row.job_id,
        row.kind,
        row.state,
        json.loads(row.parameters),
        row.total,
        row.done,
        row.failed,
        row.created,
        row.created_by,
        row.finished,
        row.error,
    )
