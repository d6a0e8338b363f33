"""`POST /v1/events`: what the CRM knows, in the form in which Segment's libraries and servers send it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field

from predictive_scoring.schema import Document

from ..metrics import Metrics
from ..reading import json_of
from .answering import (
    WRITE_PROBLEMS,
    IdempotencyKey,
    clock,
    in_thread,
    problems,
    state_of,
    takes,
    write,
)

if TYPE_CHECKING:
    from predictive_scoring.errors import InputError
    from predictive_scoring.keeping.store.connection import Transaction
    from predictive_scoring.keeping.store.idempotency import Answer
    from predictive_scoring.keeping.store.ingestion import Ingested
    from predictive_scoring.live.segment import SegmentBatch

router = APIRouter()

EVENTS_EXAMPLE: dict[str, Any] = {
    "batch": [
        {
            "type": "identify",
            "messageId": "crm-1",
            "userId": "CRM-4711",
            "timestamp": "2026-06-01T08:00:00Z",
            "traits": {"title": "IT Manager", "company_size": 240, "createdAt": "2026-05-11T08:15:00Z"},
        },
        {
            "type": "track",
            "messageId": "web-1",
            "userId": "CRM-4711",
            "event": "Pricing View",
            "timestamp": "2026-06-02T09:30:00Z",
            "properties": {"duration_seconds": 83},
        },
    ],
    "sentAt": "2026-06-02T09:30:05Z",
}


class EventError(Document):
    """Why one item of the batch was not kept."""

    index: int = Field(description="Place in `batch`, from 0")
    code: str = Field(description="Stable name, e.g. InvalidValue, NaiveTimestamp")
    what: str
    where: str
    remedy: str


class EventWarning(Document):
    """Something about items that were kept all the same."""

    code: str = Field(
        description="Stable name: UndeclaredEventType, FutureTime, NoMessageId, UnreadableSentAt"
    )
    count: int = Field(description="Items that it is about")
    what: str
    remedy: str


class EventsAnswer(Document):
    """What became of a batch. Everything counted in `accepted` is on the disk."""

    accepted: int
    duplicates: int = Field(description="Events whose `messageId` was counted before")
    refused: int
    erased: int = Field(description="Items about leads that were erased; they are dropped")
    errors: tuple[EventError, ...] = ()
    warnings: tuple[EventWarning, ...] = ()


_post = partial(
    router.post,
    response_model=EventsAnswer,
    responses=problems(*WRITE_PROBLEMS),
    openapi_extra=takes("EventsRequest", a_batch=EVENTS_EXAMPLE),
    tags=["telling"],
)


@_post("/v1/batch", summary="The same, where Segment's libraries send it")
@_post("/v1/events", summary="Tell about leads")
async def events(request: Request, key: IdempotencyKey = None) -> Response:
    """Keep a Segment `batch`: identify, track, page, screen, group and alias calls, at most 5,000.

    The answer comes when everything is durably kept. Items may come late, in any order and several times: an event
    is counted once by its `messageId`. An item that cannot be kept is told in `errors` and spares the others. Leads
    that changed are scored again within seconds."""
    from predictive_scoring.live.segment import SegmentReader

    state = state_of(request)
    state.open()
    body, received = await request.body(), clock()
    counted: list[EventsAnswer] = []

    def read() -> SegmentBatch:
        return SegmentReader(state.declared()).read(json_of(body), received)

    batch = await in_thread(read)

    def keep(tx: Transaction, _: int) -> Answer:
        from predictive_scoring.keeping.store.idempotency import Answer
        from predictive_scoring.keeping.store.ingestion import ingest

        answer = answer_of(batch, ingest(tx, batch.messages))
        counted[:] = [answer]
        return Answer(200, answer.model_dump_json())

    answer = await write(request, key, body, keep)
    metrics: Metrics = request.app.state.metrics
    for one in counted:
        metrics.ingested(one.accepted, one.duplicates, one.refused)
    return answer


def answer_of(batch: SegmentBatch, ingested: Ingested) -> EventsAnswer:
    """What became of every item of a batch: those that could not be read, and those that were given to the store."""
    found = dict(batch.refusals)
    for index, result in zip(batch.indexes, ingested.results, strict=True):
        if result.refusal is not None:
            found[index] = result.refusal
    return EventsAnswer(
        accepted=ingested.count("accepted"),
        duplicates=ingested.count("duplicate"),
        refused=len(found),
        erased=ingested.count("erased"),
        errors=tuple(_error(index, found[index]) for index in sorted(found)),
        warnings=tuple(
            EventWarning(code=one.code, count=one.count, what=one.what, remedy=one.remedy)
            for one in batch.warnings
        ),
    )


def _error(index: int, refused: InputError) -> EventError:
    from predictive_scoring.live.segment import place_of

    where = refused.where if refused.where.startswith("batch[") else place_of(index, refused.where)
    return EventError(index=index, code=refused.name, what=refused.what, where=where, remedy=refused.remedy)
