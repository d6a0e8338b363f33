"""Bulk scoring as a job: begun, watched, cancelled; its scores are read from `/v1/scores`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from predictive_scoring.schema import Document
from predictive_scoring.timeline import format_instant

from ..bodies import Body, Id, Instant
from .answering import (
    WRITE_PROBLEMS,
    IdempotencyKey,
    actor_of,
    in_thread,
    instant,
    opaque,
    problems,
    read_body,
    state_of,
    takes,
    write,
)

if TYPE_CHECKING:
    from predictive_scoring.keeping.store.connection import Transaction
    from predictive_scoring.keeping.store.idempotency import Answer
    from predictive_scoring.keeping.store.jobs import Job

MOST_LEADS_OF_A_JOB, MOST_ID = 100_000, 200
CURSOR, AS_OF = "cursor", "as_of"
"""Parameters of a job: the cursor of scores when it was created, and the instant to score at (absent: as far as the
store knows)."""

JOB_EXAMPLE: dict[str, Any] = {"kind": "score"}
CHOSEN_EXAMPLE: dict[str, Any] = {
    "kind": "score",
    "lead_ids": ["CRM-4711", "L-00001"],
    "as_of": "2026-06-30T00:00:00Z",
}

router = APIRouter(tags=["jobs"])


class JobRequest(Body):
    """A job to do in the background."""

    model_config = ConfigDict(json_schema_extra={"examples": [JOB_EXAMPLE]})

    kind: Literal["score"]
    lead_ids: list[Id] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_LEADS_OF_A_JOB,
        description="Stored leads, in this order. Default: every stored lead",
    )
    as_of: Instant | None = Field(default=None, description="Default: as far as the store knows by then")


class JobDocument(Document):
    """A job and how far it is. One that was interrupted goes on where it stopped."""

    job_id: str
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    total: int = Field(description="Leads")
    done: int = Field(description="Leads that are done, those without a score among them")
    failed: int = Field(description="Leads that could not be scored: unknown ids, for example")
    progress: float = Field(description="Share that is done, 0 to 1")
    created_at: str
    finished_at: str | None
    error: str | None = Field(description="Name of the error that ended it")
    scores: str = Field(description="Address at which its scores can be read, with others of the same time")


class JobList(Document):
    """The newest jobs first."""

    jobs: tuple[JobDocument, ...]


@router.post(
    "/v1/jobs",
    summary="Begin a job",
    status_code=202,
    response_model=JobDocument,
    responses=problems(*WRITE_PROBLEMS),
    openapi_extra=takes("JobRequest", every_stored_lead=JOB_EXAMPLE, some_leads_at_an_instant=CHOSEN_EXAMPLE),
)
async def begin(request: Request, key: IdempotencyKey = None) -> Response:
    """Score stored leads in the background. The header `location` and `job_id` name the job."""
    body = await request.body()
    wanted = read_body(body, JobRequest)
    as_of = None if wanted.as_of is None else instant(wanted.as_of, "as_of", 0)
    actor = actor_of(request)

    def keep(tx: Transaction, now: int) -> Answer:
        from predictive_scoring.keeping.store.idempotency import Answer
        from predictive_scoring.keeping.store.jobs import create_job
        from predictive_scoring.keeping.store.messages import check_text

        for lead_id in wanted.lead_ids or ():
            check_text(lead_id, "lead_ids", MOST_ID)

        parameters = {CURSOR: tx.counter("scores")} | ({} if as_of is None else {AS_OF: as_of})
        job = create_job(tx, wanted.kind, parameters, now=now, actor=actor, lead_ids=wanted.lead_ids)
        return Answer(202, _document(job).model_dump_json())

    answer = await write(request, key, body, keep)
    begun = JobDocument.model_validate_json(bytes(answer.body))
    answer.headers["location"] = f"/v1/jobs/{begun.job_id}"
    return answer


@router.get("/v1/jobs", summary="The newest jobs", response_model=JobList, responses=problems(422))
async def jobs(request: Request, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> Response:
    """Jobs and how far they are."""
    from predictive_scoring.keeping.store.jobs import list_jobs

    store = state_of(request).open()
    found = await in_thread(lambda: store.read(lambda tx: list_jobs(tx, limit)))
    return _json(JobList(jobs=tuple(_document(job) for job in found)))


@router.get("/v1/jobs/{job_id}", summary="A job", response_model=JobDocument, responses=problems(404))
async def job(request: Request, job_id: str) -> Response:
    """How far it is."""
    from predictive_scoring.keeping.store.jobs import read_job

    store = state_of(request).open()
    return _json(_document(await in_thread(lambda: store.read(lambda tx: read_job(tx, job_id)))))


@router.delete(
    "/v1/jobs/{job_id}",
    summary="Cancel a job",
    response_model=JobDocument,
    responses=problems(404, 422),
)
async def cancel_job(request: Request, job_id: str, key: IdempotencyKey = None) -> Response:
    """End the job unless it has ended. Scores that it made stay."""

    def keep(tx: Transaction, now: int) -> Answer:
        from predictive_scoring.keeping.store.idempotency import Answer
        from predictive_scoring.keeping.store.jobs import cancel

        return Answer(200, _document(cancel(tx, job_id, now)).model_dump_json())

    return await write(request, key, b"", keep)


def _json(document: Document) -> Response:
    return Response(document.model_dump_json(), media_type="application/json")


def _document(job: Job) -> JobDocument:
    # At an instant of the past a score is not a lead's latest one, which is all that `every` leaves out.
    every = "&every=true" if AS_OF in job.parameters else ""
    return JobDocument(
        job_id=job.job_id,
        kind=job.kind,
        state=job.state,
        total=job.total,
        done=job.done,
        failed=job.failed,
        progress=round(job.done / job.total, 4) if job.total else float(job.state == "done"),
        created_at=format_instant(job.created),
        finished_at=None if job.finished is None else format_instant(job.finished),
        error=job.error,
        scores=f"/v1/scores?cursor={opaque(int(job.parameters.get(CURSOR, 0)))}{every}",
    )
