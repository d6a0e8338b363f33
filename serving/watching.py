"""What is noted of every request and of every transaction of the store: counts, times, a log line, a span."""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from typing import TYPE_CHECKING, Any

import structlog
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import tracing
from .metrics import METHODS, SECURITY_HEADERS, Metrics
from .problems import MEDIA_TYPE, PROBLEMS

if TYPE_CHECKING:
    from sqlalchemy import Engine

QUIET = frozenset({"/livez", "/readyz", "/metrics"})
"""Asked for every few seconds by machines: logged only where something is wrong, or at level debug."""
NOTHING, GONE, FAILED = 0, 499, 500
"""What is noted of a request that nothing was sent to: the client went away before its body was there, or we failed."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

log = logging.getLogger("predictive_scoring.access")


class Observed:
    """Pure ASGI middleware around everything, refusals included. Adds the security headers and the request's id."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, problem, is_problem = time.perf_counter(), NOTHING, "", False
        traceparent, request_id = identify(scope["headers"])

        async def noted(message: Message) -> None:
            nonlocal status, problem, is_problem
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), *SECURITY_HEADERS]
                is_problem = (b"content-type", MEDIA_TYPE.encode()) in headers
                headers.append((b"x-request-id", request_id.encode()))
                message = {**message, "headers": headers}
            elif is_problem and not problem:
                problem = _name_of(message.get("body", b""))
            await send(message)

        method = scope["method"] if scope["method"] in METHODS else "other"
        with (
            structlog.contextvars.bound_contextvars(request_id=request_id),
            tracing.span(method, {"http.request.method": method}, traceparent=traceparent or "") as span,
        ):
            try:
                await self.app(scope, receive, noted)
                status = GONE if status == NOTHING else status
            finally:
                status = FAILED if status == NOTHING else status
                seconds, route = time.perf_counter() - started, _template(scope.get("route"))
                self.metrics.requests.labels(method, route, str(status)).inc()
                self.metrics.seconds.labels(route).observe(seconds)
                if problem:
                    self.metrics.refuse(problem)
                span.name(f"{method} {route}")
                span.note({"http.route": route, "http.response.status_code": status})
                _log(scope, method, route, status, seconds, problem)


def identify(headers: list[tuple[bytes, bytes]]) -> tuple[str | None, str]:
    """The caller's `traceparent`, and the request's id: that of its trace, its `x-request-id`, or one of our making.

    What does not look like an id is not repeated: it would end up in logs."""
    found = {name: value for name, value in headers if name in (b"traceparent", b"x-request-id")}
    traced = _TRACEPARENT.fullmatch(found.get(b"traceparent", b"").decode("latin-1"))
    if traced:
        return traced[0], traced[1]
    given = found.get(b"x-request-id", b"").decode("latin-1")
    return None, given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


def _name_of(body: bytes) -> str:
    """The name in a problem document, if it is one of ours."""
    try:
        name = json.loads(body).get("name")
    except (ValueError, AttributeError):
        return ""
    return name if name in PROBLEMS else ""


def _log(scope: Scope, method: str, route: str, status: int, seconds: float, problem: str) -> None:
    # That it is not ready is told once, by whoever makes it ready.
    is_quiet = route in QUIET and (status < 400 or problem == "NotReady")
    level = logging.DEBUG if is_quiet else logging.INFO
    if log.isEnabledFor(level):
        caller = scope.get("state", {}).get("caller")
        about: dict[str, Any] = {
            "method": method,
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 2),
            "key": getattr(caller, "key_id", None),
        }
        log.log(level, "request", extra={**about, "problem": problem} if problem else about)


def _template(route: BaseRoute | None) -> str:
    return getattr(route, "path", None) or "unmatched"


def watch_store(engine: Engine, metrics: Metrics) -> None:
    """Note every transaction of a store's engine from now on: its kind (read or write) and how long it took, waiting
    for its turn and for the disk included."""
    from sqlalchemy import Connection, event

    def begun(connection: Connection) -> None:
        kind = "write" if connection.get_execution_options().get("writing") else "read"
        connection.info["watched"] = (kind, time.time_ns(), time.perf_counter())

    def over(_: object, record: Any) -> None:
        found = record.info.pop("watched", None)
        if found is not None:
            kind, started_ns, started = found
            metrics.store_seconds.labels(kind).observe(time.perf_counter() - started)
            tracing.happened(f"store {kind}", started_ns, time.time_ns(), {"db.operation.name": kind})

    # Before the store's own listener, which waits for the writer's turn.
    event.listen(engine, "begin", begun, insert=True)
    # The commit's own event comes before the commit; a connection goes back to the pool after it.
    event.listen(engine, "checkin", over)
