"""Stored leads: the ranked list, one lead's score, its erasure, and the report of all that is held about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from predictive_scoring.errors import StoreUnavailable
from predictive_scoring.schema import Document, Score, Stage

from ..bodies import LeadPage
from ..listing import list_leads
from ..selection import ReadinessFilter, Selection
from ..state import Serving
from ..together import Together
from .answering import (
    IdempotencyKey,
    actor_of,
    answered,
    clock,
    in_thread,
    in_worker,
    in_writer,
    problems,
    request_name,
    state_of,
)

if TYPE_CHECKING:
    from predictive_scoring.keeping.store.connection import Transaction
    from predictive_scoring.keeping.store.erasure import Erased
    from predictive_scoring.keeping.store.idempotency import Answer
    from predictive_scoring.keeping.vectors import VectorLog

    from ..state import ServingState

MOST_PER_PAGE = 500

router = APIRouter()


class ErasedAnswer(Document):
    """What an erasure took away. All zero: nothing was there (the id then cannot come any more)."""

    erased: dict[str, int] = Field(description="Rows by table")
    vectors: int = Field(description="Kept feature vectors")
    connector_tables: int = Field(description="Rows in the folders of connectors on the service's machine")


@router.get(
    "/v1/leads",
    summary="Ranked stored leads",
    response_model=LeadPage,
    responses=problems(422),
    tags=["leads"],
)
async def leads(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=MOST_PER_PAGE)] = 50,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    readiness: Annotated[ReadinessFilter | None, Query()] = None,
    stage: Annotated[Stage | None, Query()] = None,
    search: Annotated[str, Query(max_length=200, description="Part of a lead id")] = "",
) -> Response:
    """Stored leads by their latest score, the most promising first; leads without a score come last, each with its
    reason."""
    serving = state_of(request).ready()
    project, selection = serving.scorer.scoring.project, Selection(readiness, stage, search)
    found = await in_thread(lambda: list_leads(serving.store, project, selection, limit, offset))
    return Response(found.page.model_dump_json(), media_type="application/json")


@router.get(
    "/v1/leads/{lead_id:path}/subject",
    summary="Everything held about a lead",
    response_model=dict[str, Any],
    responses=problems(404),
    tags=["leads"],
)
async def subject(request: Request, lead_id: str) -> JSONResponse:
    """The subject report: every row of every table about the lead, kept feature vectors, and what the audit log says.

    Its keys are the tables of the store; they may change with a release."""
    from predictive_scoring.keeping.store.subject import subject_report

    state = state_of(request)
    store, logs = state.open(), vector_logs(state)
    return JSONResponse(await in_thread(lambda: store.read(lambda tx: subject_report(tx, lead_id, logs))))


@router.get(
    # `:path`, because an id may hold a slash.
    "/v1/leads/{lead_id:path}",
    summary="Score of one stored lead",
    response_model=Score,
    responses=problems(404),
    tags=["leads"],
)
async def lead(request: Request, lead_id: str) -> Response:
    """The Score document of a stored lead, by any of its ids, as far as the store knows.

    A lead that changed since its last score, or never had one, is scored now."""
    from predictive_scoring.live.stored import lead_in_view

    serving = state_of(request).ready()
    kept: Together[Wanted, str | None] = request.app.state.kept
    document = await kept.ask(Wanted(serving, lead_id))
    if document is None:
        seen = await in_worker(request, lambda: lead_in_view(serving.store, serving.scorer, lead_id))
        document = seen.score.model_dump_json()
    return Response(document, media_type="application/json")


@dataclass(frozen=True)
class Wanted:
    """A stored lead's score is wanted, from this model and store."""

    serving: Serving
    lead_id: str


def documents(wanted: Sequence[Wanted]) -> list[str | Exception | None]:
    """The kept documents that hold, of several requests in one query; None where there is none."""
    from predictive_scoring.live.stored import documents_that_hold

    found: list[str | Exception | None] = []
    for _, several in groupby(wanted, lambda one: id(one.serving)):
        alike = list(several)
        serving, ids = alike[0].serving, [one.lead_id for one in alike]
        try:
            kept = documents_that_hold(serving.store, serving.scorer, ids)
        except StoreUnavailable as refused:
            found += [refused] * len(alike)
        else:
            found += [kept.get(one) for one in ids]
    return found


@router.delete(
    "/v1/leads/{lead_id:path}",
    summary="Erase a lead",
    response_model=ErasedAnswer,
    # 404: an id with a line break, which no address can name.
    responses=problems(404, 422),
    tags=["leads"],
)
async def erase(request: Request, lead_id: str, key: IdempotencyKey = None) -> Response:
    """Erase a lead by any of its ids, everywhere. May be repeated; messages about it that come later are dropped."""
    from predictive_scoring.keeping.store.idempotency import Answer, kept, once

    state = state_of(request)
    store, now, actor = state.open(), clock(), actor_of(request)
    asked = request_name(request, b"")

    def work() -> Answer:
        if key is not None:
            before = store.read(
                lambda tx: kept(tx, caller=actor, key=key, request_hash=tx.pseudonym(asked), now=now)
            )
            if before is not None:
                return before
        gone = forget(state, lead_id, now, actor)
        rows = {name: count for name, count in gone.rows.items() if count}
        document = ErasedAnswer(erased=rows, vectors=gone.vectors, connector_tables=gone.landed)
        answer = Answer(200, document.model_dump_json())
        if key is None:
            return answer

        def keep(tx: Transaction) -> Answer:
            name = tx.pseudonym(asked)
            return once(tx, caller=actor, key=key, request_hash=name, now=now, work=lambda: answer)

        # An erasure ends outside of its transaction (files are overwritten), so its answer is kept after it. Killed in
        # between, the same request erases again, which changes nothing.
        return store.write(keep)

    return answered(await in_writer(request, work))


def forget(state: ServingState, lead_id: str, now: int, actor: str) -> Erased:
    """Erase a lead wherever the service's machine holds it. Raises InvalidValue and StoreUnavailable."""
    from predictive_scoring.live.crm import erase_everywhere, usual_folders

    folders = [] if state.project_file is None else usual_folders(state.project_file)
    return erase_everywhere(
        state.open(), lead_id, now=now, actor=actor, vectors=vector_logs(state), folders=folders
    )


def vector_logs(state: ServingState) -> list[VectorLog]:
    """Where feature vectors of the leads are kept."""
    from predictive_scoring.keeping.vectors import FOLDER, VectorLog

    return [VectorLog(state.models / state.declared().name / FOLDER)]
