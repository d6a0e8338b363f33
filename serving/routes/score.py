"""`POST /v1/score`: scores of leads in the body, or of stored leads named by id."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from ..bodies import EXAMPLE, ScoreResponse
from ..metrics import Metrics
from ..reading import read_frame
from .answering import WRITE_PROBLEMS, clock, in_worker, problems, state_of, takes

router = APIRouter()


@router.post(
    "/v1/score",
    summary="Score leads",
    response_model=ScoreResponse,
    responses=problems(*WRITE_PROBLEMS),
    openapi_extra=takes(
        "ScoreRequest",
        history_in_the_body=EXAMPLE,
        a_stored_lead={"leads": [{"lead_id": "L-00001"}]},
        without_the_explanation={"leads": [{"lead_id": "L-00001"}], "explanation": False},
    ),
    tags=["scores"],
)
async def score(request: Request) -> Response:
    """Score leads sent with their history, or stored leads sent by `lead_id` alone. Nothing is kept.

    A lead that cannot be read is told in `errors` and spares its neighbours. Attributes, event types and
    properties that the project does not declare are not read and are told in `warnings`."""
    serving = state_of(request).ready()
    body = await request.body()
    # The clock is read here and nowhere below: a score is a pure function of the history and `as_of`.
    now = clock()

    def work() -> tuple[bytes, int, int]:
        frame = read_frame(body)
        scores, notes = serving.score(frame.leads, frame.as_of, now)
        if not frame.explanation:
            scores = [one.model_copy(update={"explanation": None}) for one in scores]
        answer = ScoreResponse(
            scores=tuple(scores), errors=tuple(notes.errors), warnings=tuple(notes.warnings)
        )
        return answer.model_dump_json().encode(), len(scores), len(notes.errors)

    answer, scored, refused = await in_worker(request, work)
    metrics: Metrics = request.app.state.metrics
    metrics.leads.labels("answered").inc(scored)
    metrics.leads.labels("refused").inc(refused)
    return Response(answer, media_type="application/json")
