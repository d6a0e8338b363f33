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

from . import api, pages, problems
from .limits import Limits, LimitSettings
from .metrics import Metrics, Observed
from .openapi import openapi_document
from .state import ServingState

STATIC = Path(__file__).parent / "static"


def create_app(state: ServingState, limits: LimitSettings | None = None) -> FastAPI:
    """The application; it starts to load the model when its lifespan starts."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        state.start()
        yield

    app = FastAPI(
        title="predictive_scoring",
        version=__version__,
        description="Lead scores with exact reasons and the next nurture action.",
        # FastAPI's documentation pages load scripts from another server; ours is at /docs.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.serving = state
    app.state.metrics = Metrics()
    app.state.metrics.registry.register(state.vectors.counted)
    # Scoring is CPU work in one thread: more would only take turns, and DuckDB's connection is not shared.
    app.state.worker = anyio.CapacityLimiter(1)
    app.openapi = partial(openapi_document, app)  # type: ignore[method-assign]  # FastAPI's documented way
    problems.install(app)
    app.include_router(pages.router, include_in_schema=False)
    app.include_router(api.router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    # The last one added is the outermost.
    app.add_middleware(Limits, settings=limits or LimitSettings())
    app.add_middleware(Observed, metrics=app.state.metrics)
    return app
