"""What every route does alike: the state, the threads, bodies, writes that may be sent twice, cursors."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import anyio
from fastapi import Header, Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError

from predictive_scoring.errors import InputError, NaiveTimestamp
from predictive_scoring.timeline import parse_instant

from .. import tracing
from ..callers import caller_of
from ..problems import MEDIA_TYPE, Problem, Refused, complaints
from ..reading import json_of
from ..state import ServingState

if TYPE_CHECKING:
    from predictive_scoring.keeping.store.connection import Transaction
    from predictive_scoring.keeping.store.idempotency import Answer

T = TypeVar("T")
B = TypeVar("B", bound=BaseModel)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="A name of your own for this request. The same request sent again under it is answered as the "
        "first time, with the header `idempotency-replayed: true`, and does nothing more. Kept for a day.",
    ),
]
_JSON = "application/json"


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, for its OpenAPI document; what any address may answer is always among them."""
    every = sorted({*statuses, 401, 403, 421, 429, 500, 503})
    return {
        status: {"model": Problem, "content": {MEDIA_TYPE: {}}, "description": "Problem"} for status in every
    }


WRITE_PROBLEMS = (400, 408, 413, 415, 422)
"""What a request with a body may be refused for."""


def takes(model: str, **examples: object) -> dict[str, Any]:
    """The body of a route that reads it by hand, for its OpenAPI document. `openapi.py` publishes the model."""
    named = {name.replace("_", " "): {"value": value} for name, value in examples.items()}
    schema = {"$ref": f"#/components/schemas/{model}"}
    return {"requestBody": {"required": True, "content": {_JSON: {"schema": schema, "examples": named}}}}


def state_of(request: Request) -> ServingState:
    """The application's state."""
    state: ServingState = request.app.state.serving
    return state


def actor_of(request: Request) -> str:
    """The id of the key that the request was sent with; `local` where none is needed."""
    caller = caller_of(request)
    return "local" if caller is None else caller.key_id


async def in_thread(work: Callable[[], T]) -> T:
    """Run what waits for the store in a thread, so that the event loop stays free."""
    return await anyio.to_thread.run_sync(work)


async def in_worker(request: Request, work: Callable[[], T]) -> T:
    """Run CPU work in the one worker thread, so that the event loop stays free to answer probes."""
    limiter: anyio.CapacityLimiter = request.app.state.worker
    with tracing.span("scoring"):
        return await anyio.to_thread.run_sync(work, limiter=limiter)


async def in_writer(request: Request, work: Callable[[], T]) -> T:
    """Run a write in the one thread for writes: scoring does not wait for the disk."""
    limiter: anyio.CapacityLimiter = request.app.state.writer
    return await anyio.to_thread.run_sync(work, limiter=limiter)


def clock() -> int:
    """Now, in epoch seconds. Read at this door and nowhere below it."""
    return int(time.time())


def read_body(body: bytes, model: type[B]) -> B:
    """The body as `model`. Raises Refused."""
    try:
        return model.model_validate(json_of(body))
    except ValidationError as refused:
        found = complaints(refused.errors(include_url=False, include_input=False))
        raise Refused(
            "InvalidBody",
            f"{found[0].where}: {found[0].what}",
            where=found[0].where,
            remedy="See /docs for the form of the body.",
            errors=found,
        ) from refused


def instant(text: str | None, where: str, default: int, problem: str = "InvalidBody") -> int:
    """Epoch seconds of a time in a request, or the default. Raises Refused, which does not repeat the text."""
    if text is None:
        return default
    try:
        return parse_instant(text)
    except (InputError, OverflowError) as refused:
        naive = isinstance(refused, NaiveTimestamp)
        raise Refused(
            problem,
            "The time has no time zone." if naive else "The text is not a time.",
            where=where,
            remedy="Write ISO 8601 with an offset, for example 2026-01-05T09:00:00Z.",
        ) from refused


async def write(
    request: Request, key: str | None, body: bytes, work: Callable[[Transaction, int], Answer]
) -> Response:
    """The answer of `work(transaction, now)`, once what it wrote is durably kept; under a key, only the first time.

    Raises Refused and what `work` raises; then nothing is kept."""
    from predictive_scoring.keeping.store.idempotency import once

    store, now, actor = state_of(request).open(), clock(), actor_of(request)
    asked = request_name(request, body)

    def kept(tx: Transaction) -> Answer:
        if key is None:
            return work(tx, now)
        name = tx.pseudonym(asked)
        return once(tx, caller=actor, key=key, request_hash=name, now=now, work=lambda: work(tx, now))

    return answered(await in_writer(request, lambda: store.write(kept)))


def request_name(request: Request, body: bytes) -> str:
    """What a request asks, told from any other: method, address and body."""
    return f"{request.method} {request.url.path}?{request.url.query} {hashlib.sha256(body).hexdigest()}"


def answered(answer: Answer) -> Response:
    """A kept answer as the response."""
    headers = {"idempotency-replayed": "true"} if answer.replayed else None
    return Response(answer.body, answer.status, headers, _JSON)


def opaque(*values: str | int) -> str:
    """A cursor: text that stands for these values and means nothing to its reader."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_opaque(text: str, where: str, forms: Sequence[Sequence[type]]) -> list[Any]:
    """The values of a cursor, whose types are those of one of the forms. Raises Refused."""
    try:
        values = json.loads(base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)))
    except (ValueError, RecursionError):
        values = None
    if (
        isinstance(values, list)
        and any([type(value) for value in values] == list(form) for form in forms)
        and all(not isinstance(value, int) or 0 <= value < 2**62 for value in values)
    ):
        return values
    raise no_cursor(where)


def no_cursor(where: str) -> Refused:
    """The text at `where` is no cursor."""
    return Refused(
        "InvalidQuery",
        "This is no cursor that the service gave.",
        where=where,
        remedy="Send the text of an earlier answer unchanged, or leave it out to begin anew.",
    )
