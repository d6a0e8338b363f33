"""What operators ask: is it alive, can it score, how is it doing."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from predictive_scoring.schema import Document, ModelReference

from ..callers import caller_of, is_told
from ..metrics import CONTENT_TYPE, Metrics
from ..moments import moment_of
from ..problems import Refused
from .answering import clock, in_thread, problems, state_of

router = APIRouter(tags=["operation"])


class Readiness(Document):
    """The service can score. With which model is told to those with a key."""

    status: str
    model: ModelReference | None


@router.get("/livez", summary="Is the process alive?", response_class=PlainTextResponse)
async def livez() -> PlainTextResponse:
    """200 as soon as the process answers."""
    return PlainTextResponse("ok\n")


@router.get("/readyz", summary="Can it score?", response_model=Readiness, responses=problems())
async def readyz(request: Request) -> Response:
    """200 when a model is loaded; 503 with the reason until then."""
    try:
        reference = state_of(request).ready().scorer.reference
    except Refused as refused:
        if is_told(request):
            raise
        raise Refused("NotReady", "The service is not ready.", headers=refused.headers) from refused
    answer = Readiness(status="ready", model=None if caller_of(request) is None else reference)
    return Response(answer.model_dump_json(), media_type="application/json")


@router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse, responses=problems())
async def metrics(request: Request) -> Response:
    """Text exposition format."""
    found: Metrics = request.app.state.metrics
    moment = await in_thread(lambda: moment_of(state_of(request), clock()))
    return Response(found.text(moment), headers={"content-type": CONTENT_TYPE})
