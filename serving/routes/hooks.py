"""`POST /v1/hooks/{source}`: webhooks of others, signed instead of keyed; only where a secret is configured.

    hubspot     PREDICTIVE_SCORING_HUBSPOT_CLIENT_SECRET   version 3 signatures; changes of contacts
    standard    PREDICTIVE_SCORING_HOOK_SECRETS            Standard Webhooks; the body is that of /v1/events

What was received is not remembered: every message may be kept twice without counting twice, and a sender whose
answer was lost must be able to send again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import Response

from ..problems import Refused
from ..reading import json_of
from .answering import WRITE_PROBLEMS, clock, in_writer, problems, state_of, takes
from .events import EVENTS_EXAMPLE, EventsAnswer, answer_of

if TYPE_CHECKING:
    from predictive_scoring.connectors.hubspot_webhooks import HubspotNews
    from predictive_scoring.keeping.store.messages import Message

HUBSPOT_VARIABLE = "PREDICTIVE_SCORING_HUBSPOT_CLIENT_SECRET"
STANDARD_VARIABLE = "PREDICTIVE_SCORING_HOOK_SECRETS"
URL_VARIABLE = "PREDICTIVE_SCORING_PUBLIC_URL"
"""The address by which others call the service, where a proxy stands before it; HubSpot signs it."""

router = APIRouter(tags=["telling"])


@router.post(
    "/v1/hooks/{source}",
    summary="Webhooks in",
    response_model=EventsAnswer,
    responses=problems(404, *WRITE_PROBLEMS),
    openapi_extra=takes("EventsRequest", standard=EVENTS_EXAMPLE),
)
async def hook(request: Request, source: str) -> Response:
    """`standard`: a Segment `batch`, signed by Standard Webhooks. `hubspot`: HubSpot's contact events."""
    body, now = await request.body(), clock()
    if source == "standard" and os.environ.get(STANDARD_VARIABLE):
        answer = await in_writer(request, lambda: _standard(request, body, now))
    elif source == "hubspot" and os.environ.get(HUBSPOT_VARIABLE):
        answer = await in_writer(request, lambda: _hubspot(request, body, now))
    else:
        raise Refused("NotFound", "No such webhook is configured.", remedy="See docs/api.md#webhooks-in.")
    return Response(answer.model_dump_json(), media_type="application/json")


def _standard(request: Request, body: bytes, now: int) -> EventsAnswer:
    from predictive_scoring.connectors.signatures import verify_standard
    from predictive_scoring.keeping.store.ingestion import ingest
    from predictive_scoring.live.segment import SegmentReader

    state = state_of(request)
    verify_standard(request.headers, body, os.environ[STANDARD_VARIABLE].split(), now, seen=None)
    batch = SegmentReader(state.declared()).read(json_of(body), now)
    return answer_of(batch, state.open().write(lambda tx: ingest(tx, batch.messages)))


def _hubspot(request: Request, body: bytes, now: int) -> EventsAnswer:
    from predictive_scoring.connectors.hubspot_webhooks import read_hubspot
    from predictive_scoring.connectors.signatures import verify_hubspot
    from predictive_scoring.keeping.store.ingestion import ingest

    from .leads import forget

    state = state_of(request)
    public = os.environ.get(URL_VARIABLE, "").rstrip("/")
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    address = f"{public}{target}" if public else str(request.url)
    verify_hubspot("POST", address, request.headers, body, os.environ[HUBSPOT_VARIABLE], now, seen=None)
    news, store = read_hubspot(body, now), state.open()
    messages = _messages(news, now)
    ingested = store.write(lambda tx: ingest(tx, messages))
    # A contact that HubSpot deleted is forgotten, as by a pull.
    for lead_id in dict.fromkeys((*news.deleted, *news.erase)):
        forget(state, lead_id, now, "hubspot")
    return EventsAnswer(
        accepted=ingested.count("accepted"),
        duplicates=ingested.count("duplicate"),
        refused=ingested.count("refused") + news.ignored,
        erased=ingested.count("erased") + len({*news.deleted, *news.erase}),
    )


def _messages(news: HubspotNews, now: int) -> tuple[Message, ...]:
    from predictive_scoring.keeping.store.messages import Message

    created = [
        Message(f"hubspot:{one}:created", at, now, lead_id=one, created=at) for one, at in news.created
    ]
    changes = [
        Message(
            f"hubspot:{one}:{change.attribute}:{change.occurred}",
            change.occurred,
            change.known,
            lead_id=one,
            traits={change.attribute: change.value or None},
        )
        for one, change in news.changes
    ]
    merged = [
        Message(f"hubspot:{gone}:merged:{stays}", now, now, lead_id=stays, previous_id=gone)
        for gone, stays in news.merged
    ]
    return (*created, *changes, *merged)
