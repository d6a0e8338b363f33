"""What Prometheus reads at `/metrics`: bounded series only.

Labels are route templates, methods and statuses of our own making; a path or a lead id never becomes a label,
because every new value would make a new series.
"""

from __future__ import annotations

import time

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_TYPE = CONTENT_TYPE_LATEST
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """The service's own registry and its instruments."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "predictive_scoring_requests",
            "Answered HTTP requests",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "predictive_scoring_request_seconds",
            "Time from the first byte of a request to the last of its answer",
            ("route",),
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
            registry=self.registry,
        )
        self.leads = Counter(
            "predictive_scoring_leads", "Leads answered by /v1/score", ("outcome",), registry=self.registry
        )
        self.ready = Gauge("predictive_scoring_ready", "1 when a model is loaded", registry=self.registry)
        self.model = Gauge(
            "predictive_scoring_model",
            "The model that serves",
            ("name", "version", "bundle"),
            registry=self.registry,
        )

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)


SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'none'; object-src 'none'; base-uri 'none'; form-action 'self'; "
        b"frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Observed:
    """Pure ASGI middleware around everything, refusals included: counts, times, adds the security headers."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *SECURITY_HEADERS]}
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            route = _template(scope.get("route"))
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.metrics.requests.labels(method, route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - started)


def _template(route: BaseRoute | None) -> str:
    return getattr(route, "path", None) or "unmatched"
