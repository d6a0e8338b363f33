"""The FastAPI application, made from a state: `create_app(ServingState(project_file, models))`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio
from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from predictive_scoring import __version__

from . import api, login, pages, problems
from .admission import Admission, AdmissionSettings
from .callers import KeyRing
from .limits import Limits, LimitSettings
from .metrics import Metrics
from .openapi import openapi_document
from .routes.leads import documents
from .routes.score import answers
from .state import ServingState
from .together import Together
from .watching import Observed, watch_store

STATIC = Path(__file__).parent / "static"

MOST_TOGETHER = 16
"""Requests for scores that are answered in one go; beyond it nothing gets quicker, and the first would wait longer."""
MOST_BYTES_TOGETHER = 500_000
"""Bytes of their bodies; some thirty leads with a hundred events each."""


def create_app(
    state: ServingState, limits: LimitSettings | None = None, admission: AdmissionSettings | None = None
) -> FastAPI:
    """The application; it starts to load the model when its lifespan starts."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        state.start()
        yield
        state.stopping = True
        for together in (app.state.scoring, app.state.kept):
            await anyio.to_thread.run_sync(together.stop)
        await anyio.to_thread.run_sync(state.stop)

    app = FastAPI(
        title="predictive_scoring",
        version=__version__,
        description="Lead scores with exact reasons and the next nurture action.",
        # FastAPI's documentation pages load scripts from another server; ours is at /docs.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        # Tried in this order, and programs ask a thousand times as often as people.
        routes=[*api.routes],
        # FastAPI's own traces and logs hold paths, queries and messages of errors; ours (tracing.py) do not.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.serving = state
    app.state.keys = KeyRing(state.open)
    app.state.metrics = Metrics()
    app.state.metrics.registry.register(state.vectors.counted)
    state.on_open = lambda store: watch_store(store.engine, app.state.metrics)
    # Scoring is CPU work in one thread: more would only take turns.
    app.state.worker = anyio.CapacityLimiter(1)
    app.state.scoring = Together(answers, MOST_TOGETHER, MOST_BYTES_TOGETHER)
    app.state.kept = Together(documents, MOST_TOGETHER, MOST_TOGETHER)
    # The store takes one writer at a time: those of this process wait here, and not within the database.
    app.state.writer = anyio.CapacityLimiter(1)
    app.openapi = partial(openapi_document, app)  # type: ignore[method-assign]  # FastAPI's documented way
    problems.install(app)
    app.include_router(login.router, include_in_schema=False)
    app.include_router(pages.router, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    # The last one added is the outermost.
    app.add_middleware(Limits, settings=limits or LimitSettings())
    app.add_middleware(
        Admission,
        keys=app.state.keys,
        settings=admission or AdmissionSettings(),
        page=pages.refusal_page,
    )
    app.add_middleware(Observed, metrics=app.state.metrics)
    return app
