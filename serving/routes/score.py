"""`POST /v1/score`: scores of leads in the body, or of stored leads named by id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from fastapi import APIRouter, Request
from fastapi.responses import Response

from predictive_scoring.schema import Score

from .. import tracing
from ..bodies import EXAMPLE, ScoreResponse
from ..metrics import Metrics
from ..problems import Refused
from ..reading import Frame, ReadLeads, read_frame
from ..state import Asked, Serving
from ..together import Together
from .answering import WRITE_PROBLEMS, clock, problems, state_of, takes

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
    scoring: Together[Question, Answer] = request.app.state.scoring
    answer = await scoring.ask(Question(serving, body, clock()), len(body))
    metrics: Metrics = request.app.state.metrics
    metrics.leads.labels("answered").inc(answer.scored)
    metrics.leads.labels("refused").inc(answer.refused)
    return Response(answer.body, media_type="application/json")


@dataclass(frozen=True)
class Question:
    """A request, and what it is answered from."""

    serving: Serving
    body: bytes
    now: int


@dataclass(frozen=True)
class Answer:
    """The document, how many leads it scores, and how many it refuses."""

    body: bytes
    scored: int
    refused: int


def answers(questions: Sequence[Question]) -> list[Answer | Exception]:
    """The answers to several requests, each by the model and store that it was given."""
    found: list[Answer | Exception] = []
    for _, several in groupby(questions, lambda one: id(one.serving)):
        alike = list(several)
        with tracing.span("scoring"):
            found += _answers(alike[0].serving, alike)
    return found


def _answers(serving: Serving, questions: Sequence[Question]) -> list[Answer | Exception]:
    found: dict[int, Answer | Exception] = {}
    frames: dict[int, Frame] = {}
    for number, one in enumerate(questions):
        try:
            frames[number] = read_frame(one.body)
        except Refused as refused:
            found[number] = refused
    asked = [Asked(frame.leads, frame.as_of, questions[number].now) for number, frame in frames.items()]
    told = serving.score_together(asked)
    for (number, frame), (scores, notes) in zip(frames.items(), told, strict=True):
        found[number] = _answer(frame, scores, notes)
    return [found[number] for number in range(len(questions))]


def _answer(frame: Frame, scores: Sequence[Score], notes: ReadLeads) -> Answer:
    if not frame.explanation:
        scores = [one.model_copy(update={"explanation": None}) for one in scores]
    document = ScoreResponse(scores=tuple(scores), errors=tuple(notes.errors), warnings=tuple(notes.warnings))
    return Answer(document.model_dump_json().encode(), len(scores), len(notes.errors))
