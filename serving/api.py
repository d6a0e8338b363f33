"""The HTTP interface for programs: `/v1/…` and the machine endpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

import anyio
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from predictive_scoring.schema import Score, Stage

from .bodies import FeatureDocument, LeadPage, ModelDocument, ScoreResponse
from .metrics import CONTENT_TYPE, Metrics
from .problems import MEDIA_TYPE, Problem
from .reading import read_frame
from .selection import Selection, select
from .state import Serving, ServingState

MOST_PER_PAGE = 500
T = TypeVar("T")

router = APIRouter()


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"model": Problem, "content": {MEDIA_TYPE: {}}, "description": "Problem"}
        for status in statuses
    }


def state_of(request: Request) -> ServingState:
    """The application's state."""
    state: ServingState = request.app.state.serving
    return state


async def in_worker(request: Request, work: Callable[[], T]) -> T:
    """Run CPU work in the one worker thread, so that the event loop stays free to answer probes."""
    limiter: anyio.CapacityLimiter = request.app.state.worker
    return await anyio.to_thread.run_sync(work, limiter=limiter)


@router.post(
    "/v1/score",
    summary="Score leads",
    response_model=ScoreResponse,
    responses=_problems(400, 408, 413, 415, 422, 429, 503),
    tags=["scores"],
)
async def score(request: Request) -> Response:
    """Score leads sent with their history, or stored leads sent by `lead_id` alone.

    A lead that cannot be read is told in `errors` and spares its neighbours. Attributes, event types and
    properties that the project does not declare are not read and are told in `warnings`."""
    serving = state_of(request).ready()
    body = await request.body()
    # The clock is read here and nowhere below: a score is a pure function of the history and `as_of`.
    now = int(time.time())

    def work() -> tuple[bytes, int, int]:
        frame = read_frame(body)
        scores, notes = serving.score(frame.leads, frame.as_of, now)
        answer = ScoreResponse(
            scores=tuple(scores), errors=tuple(notes.errors), warnings=tuple(notes.warnings)
        )
        return answer.model_dump_json().encode(), len(scores), len(notes.errors)

    answer, scored, refused = await in_worker(request, work)
    metrics: Metrics = request.app.state.metrics
    metrics.leads.labels("answered").inc(scored)
    metrics.leads.labels("refused").inc(refused)
    return Response(answer, media_type="application/json")


@router.get(
    "/v1/leads",
    summary="Ranked stored leads",
    response_model=LeadPage,
    responses=_problems(422, 503),
    tags=["leads"],
)
async def leads(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=MOST_PER_PAGE)] = 50,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    readiness: Annotated[Literal["ready", "nurture", "unscored"] | None, Query()] = None,
    stage: Annotated[Stage | None, Query()] = None,
    search: Annotated[str, Query(max_length=200, description="Part of a lead id")] = "",
) -> Response:
    """The stored leads, the most promising first, as of the end of the stored history; leads without a score
    come last, each with its reason."""
    serving = state_of(request).ready()
    found = select(serving.ranked, Selection(readiness=readiness, stage=stage, search=search))
    page = LeadPage(
        as_of=serving.as_of_text,
        total=len(found),
        limit=limit,
        offset=offset,
        leads=tuple(found[offset : offset + limit]),
    )
    return Response(page.model_dump_json(), media_type="application/json")


@router.get(
    # `:path`, because an id may hold a slash.
    "/v1/leads/{lead_id:path}",
    summary="Score of one stored lead",
    response_model=Score,
    responses=_problems(404, 503),
    tags=["leads"],
)
async def lead(request: Request, lead_id: str) -> Response:
    """The Score document of a stored lead, as of the end of the stored history."""
    return Response(state_of(request).ready().document(lead_id), media_type="application/json")


@router.get(
    "/v1/model",
    summary="The model that serves",
    response_model=ModelDocument,
    responses=_problems(503),
    tags=["model"],
)
async def model(request: Request) -> Response:
    """Name, version, what it reads, how it was judged, and what its score means."""
    document = model_document(state_of(request).ready())
    return Response(document.model_dump_json(), media_type="application/json")


def model_document(serving: Serving) -> ModelDocument:
    """The serving model in words and numbers."""
    scorer = serving.scorer
    scoring, reference = scorer.scoring, scorer.reference
    return ModelDocument(
        name=reference.name,
        version=reference.version,
        bundle=reference.bundle,
        description=scoring.project.description,
        horizon_days=scoring.project.conversion.horizon_days,
        verdict=scorer.manifest["verdict"],
        verdict_reasons=tuple(scorer.manifest["reasons"]),
        reference_odds=math.exp(scoring.grading.reference_log_odds),
        ready_probability=scoring.grading.ready_probability,
        features=tuple(
            FeatureDocument(
                name=feature.name,
                label=feature.label,
                concept=feature.concept,
                group=feature.group,
                kind=feature.kind,
            )
            for feature in scorer.features
        ),
        metrics={key: scoring.metrics[key] for key in ("test", "calibrate", "known_base_rate", "periods")},
        stored_leads=len(serving.ranked),
        stored_until=serving.as_of_text,
    )


@router.get("/livez", summary="Is the process alive?", response_class=PlainTextResponse, tags=["operation"])
async def livez() -> PlainTextResponse:
    """200 as soon as the process answers."""
    return PlainTextResponse("ok\n")


@router.get("/readyz", summary="Can it score?", responses=_problems(503), tags=["operation"])
async def readyz(request: Request) -> JSONResponse:
    """200 when a model is loaded; 503 with the reason until then."""
    reference = state_of(request).ready().scorer.reference
    return JSONResponse({"status": "ready", "model": reference.model_dump()})


@router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse, tags=["operation"])
async def metrics(request: Request) -> Response:
    """Text exposition format."""
    found: Metrics = request.app.state.metrics
    serving = state_of(request).serving
    found.ready.set(serving is not None)
    if serving is not None:
        reference = serving.scorer.reference
        found.model.labels(reference.name, reference.version or "", reference.bundle).set(1)
    return Response(found.text(), headers={"content-type": CONTENT_TYPE})
