"""What is told about one stored lead, and everything that was: touches, feedback, consents, outcomes, history."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import ConfigDict, Field

from predictive_scoring.schema import Document

from ..bodies import Body, Id, Instant, Name
from .answering import (
    WRITE_PROBLEMS,
    IdempotencyKey,
    actor_of,
    in_thread,
    instant,
    problems,
    read_body,
    read_opaque,
    state_of,
    takes,
    write,
)
from .history import History, place_of_cursor, read_history

if TYPE_CHECKING:
    from predictive_scoring.keeping.store.activity import Told
    from predictive_scoring.keeping.store.connection import Transaction
    from predictive_scoring.keeping.store.idempotency import Answer

TOUCH_EXAMPLE: dict[str, Any] = {
    "touch_id": "mail-81",
    "action_id": "case_study_email",
    "channel": "email",
    "occurred_at": "2026-06-12T09:00:00Z",
}
FEEDBACK_EXAMPLE: dict[str, Any] = {"verdict": "bad", "note": "A student who writes a thesis."}
CONSENT_EXAMPLE: dict[str, Any] = {"channel": "email", "granted": False, "source": "preference centre"}
OUTCOME_EXAMPLE: dict[str, Any] = {
    "outcome_id": "deal-7",
    "kind": "won",
    "amount_minor": 1200000,
    "currency": "EUR",
}

router = APIRouter(tags=["leads"])


class Telling(Body):
    """Base of what is told about a lead."""

    occurred_at: Instant | None = Field(default=None, description="When it happened. Default: now")


class TouchRequest(Telling):
    """A nurture action that was done to the lead; caps and cooldowns count it."""

    model_config = ConfigDict(json_schema_extra={"examples": [TOUCH_EXAMPLE]})

    touch_id: Id = Field(description="Yours; the same one sent again is counted once")
    action_id: Name
    channel: Name
    propensity: float | None = Field(
        default=None, ge=0, le=1, description="Chance with which an experiment chose it"
    )
    holdout: bool | None = Field(default=None, description="True: chosen, and left out on purpose")


class FeedbackRequest(Telling):
    """What a person says of the lead."""

    model_config = ConfigDict(json_schema_extra={"examples": [FEEDBACK_EXAMPLE]})

    verdict: Literal["good", "bad"]
    note: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    feedback_id: Id | None = Field(default=None, description="Yours, so that it is counted once")
    score_cursor: Annotated[str, Field(max_length=200)] | None = Field(
        default=None, description="The score that the person saw: `cursor` of an entry of the history"
    )


class ConsentRequest(Telling):
    """From `occurred_at` on a channel may be used, or may not. The newest word counts."""

    model_config = ConfigDict(json_schema_extra={"examples": [CONSENT_EXAMPLE]})

    channel: Name = Field(description="As under `contact.consent` in the project file")
    granted: bool
    source: Id = Field(default="api", description="How you know")


class OutcomeRequest(Telling):
    """How it ended."""

    model_config = ConfigDict(json_schema_extra={"examples": [OUTCOME_EXAMPLE]})

    outcome_id: Id = Field(description="Yours; the same one sent again is counted once")
    kind: Name = Field(description="won, lost, …")
    amount_minor: int | None = Field(
        default=None, gt=-(2**53), lt=2**53, description="In the currency's smallest unit"
    )
    currency: Annotated[str, Field(pattern="^[A-Za-z]{3}$")] | None = Field(
        default=None, description="ISO 4217, e.g. EUR"
    )


class Recorded(Document):
    """It is kept."""

    new: bool = Field(description="False: its id was kept before, and stays as it was")


_post = partial(router.post, response_model=Recorded, responses=problems(404, *WRITE_PROBLEMS))


async def _record(
    request: Request, key: str | None, told: Telling, make: Callable[[int, int], Told]
) -> Response:
    """Keep what `make(occurred, now)` gives."""
    occurred = None if told.occurred_at is None else instant(told.occurred_at, "occurred_at", 0)

    def keep(tx: Transaction, now: int) -> Answer:
        from predictive_scoring.keeping.store.activity import record
        from predictive_scoring.keeping.store.idempotency import Answer

        (new,) = record(tx, [make(now if occurred is None else occurred, now)], now)
        return Answer(200, Recorded(new=new).model_dump_json())

    return await write(request, key, await request.body(), keep)


@_post(
    "/v1/leads/{lead_id:path}/touches",
    summary="Tell of a nurture action",
    openapi_extra=takes("TouchRequest", an_email=TOUCH_EXAMPLE),
)
async def touch(request: Request, lead_id: str, key: IdempotencyKey = None) -> Response:
    """A nurture action was done to a stored lead. Caps and cooldowns of the playbook count it."""
    from predictive_scoring.keeping.store.activity import TouchMade

    told = read_body(await request.body(), TouchRequest)
    return await _record(
        request,
        key,
        told,
        lambda occurred, now: TouchMade(
            told.touch_id, lead_id, told.action_id, told.channel, occurred, now, told.propensity, told.holdout
        ),
    )


@_post(
    "/v1/leads/{lead_id:path}/feedback",
    summary="Say whether it is a good lead",
    openapi_extra=takes("FeedbackRequest", a_bad_lead=FEEDBACK_EXAMPLE, a_good_lead={"verdict": "good"}),
)
async def feedback(request: Request, lead_id: str, key: IdempotencyKey = None) -> Response:
    """What a person says of a stored lead, under the id of the key that said so."""
    from predictive_scoring.keeping.store.activity import Feedback

    told = read_body(await request.body(), FeedbackRequest)
    seen = None if told.score_cursor is None else read_opaque(told.score_cursor, "score_cursor", ([int],))[0]
    identity, actor = told.feedback_id or secrets.token_hex(16), actor_of(request)
    return await _record(
        request,
        key,
        told,
        lambda occurred, _: Feedback(identity, lead_id, told.verdict, occurred, actor, told.note, seen),
    )


@_post(
    "/v1/leads/{lead_id:path}/consents",
    summary="Tell of a consent given or withdrawn",
    openapi_extra=takes("ConsentRequest", a_withdrawal=CONSENT_EXAMPLE),
)
async def consent(request: Request, lead_id: str, key: IdempotencyKey = None) -> Response:
    """A stored lead agreed to a channel, or not any more. The next score's actions respect it."""
    from predictive_scoring.keeping.store.activity import Consent

    told = read_body(await request.body(), ConsentRequest)
    return await _record(
        request,
        key,
        told,
        lambda occurred, now: Consent(lead_id, told.channel, told.granted, occurred, now, told.source),
    )


@_post(
    "/v1/leads/{lead_id:path}/outcomes",
    summary="Tell how it ended",
    openapi_extra=takes("OutcomeRequest", a_won_deal=OUTCOME_EXAMPLE),
)
async def outcome(request: Request, lead_id: str, key: IdempotencyKey = None) -> Response:
    """How a stored lead ended: won, lost. (The conversion that the model predicts is an event.)"""
    from predictive_scoring.keeping.store.activity import Outcome

    told = read_body(await request.body(), OutcomeRequest)
    return await _record(
        request,
        key,
        told,
        lambda occurred, now: Outcome(
            told.outcome_id, lead_id, told.kind, occurred, now, told.amount_minor, told.currency
        ),
    )


@router.get(
    "/v1/leads/{lead_id:path}/history",
    summary="Everything known of a lead",
    response_model=History,
    responses=problems(404, 422),
)
async def history(
    request: Request,
    lead_id: str,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[str | None, Query(max_length=2000, description="`before` of the last page")] = None,
) -> Response:
    """Events, attribute changes, touches, consents, feedback, outcomes and scores of a stored lead, newest first."""
    store = state_of(request).open()
    place = None if before is None else place_of_cursor(before)
    found = await in_thread(lambda: store.read(lambda tx: read_history(tx, lead_id, place, limit)))
    return Response(found.model_dump_json(), media_type="application/json")
