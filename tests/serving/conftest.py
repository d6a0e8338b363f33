"""The application in process, with the small champion loaded."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from serving.admission import AdmissionSettings
from serving.app import create_app
from serving.state import Serving, ServingState

from api_answers import Checked
from predictive_scoring.keeping.store.connection import Store
from stored_project import copied_store

# Tests ask quicker than a key may; those about rates say theirs.
UNLIMITED = AdmissionSettings(rate=1e6, burst=10**6)


class Client:
    """Requests to an application in process, its lifespan running, from ordinary tests."""

    def __init__(self, app: FastAPI, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # What the application answers is what counts, not what it raised on the way.
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:3000")

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        asked = self._client.request(method, path, **options)
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result(60)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)


@contextlib.contextmanager
def in_process(state: ServingState, admission: AdmissionSettings | None = None) -> Iterator[Client]:
    """A client of an application around `state`."""
    app = create_app(state, admission=admission)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    lifespan = app.router.lifespan_context(app)
    asyncio.run_coroutine_threadsafe(lifespan.__aenter__(), loop).result(60)
    try:
        yield Client(app, loop)
    finally:
        asyncio.run_coroutine_threadsafe(lifespan.__aexit__(None, None, None), loop).result(60)
        asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()


@pytest.fixture(scope="session")
def application() -> Callable[[ServingState], contextlib.AbstractContextManager[Client]]:
    """`with application(state) as client`: for tests with a state of their own."""
    return in_process


@pytest.fixture(scope="session")
def state(small_champion, stored_champion, tmp_path_factory) -> ServingState:
    database = copied_store(stored_champion, tmp_path_factory.mktemp("store"))
    return ServingState(small_champion.file, small_champion.models, database=database)


@pytest.fixture(scope="session")
def client(state: ServingState) -> Iterator[Client]:
    with in_process(state, UNLIMITED) as client:
        until = time.monotonic() + 120
        while state.serving is None:
            assert state.failure is None, state.failure
            assert time.monotonic() < until, "the model did not load in time"
            time.sleep(0.05)
        yield client


@pytest.fixture(scope="session")
def serving(client: Client, state: ServingState) -> Serving:
    assert state.serving is not None
    return state.serving


@pytest.fixture(scope="session")
def writing(small_champion, stored_champion, tmp_path_factory) -> Iterator[tuple[Checked, ServingState]]:
    """A client whose every answer is held against the OpenAPI document, and its state, with a store of their own that
    tests write to: each under lead ids of its own."""
    folder = tmp_path_factory.mktemp("writing")
    state = ServingState(
        small_champion.file, small_champion.models, database=copied_store(stored_champion, folder)
    )
    with in_process(state, UNLIMITED) as client:
        until = time.monotonic() + 120
        while state.serving is None:
            assert state.failure is None, state.failure
            assert time.monotonic() < until, "the model did not load in time"
            time.sleep(0.05)
        yield Checked(client), state


@pytest.fixture
def api(writing) -> Checked:
    return writing[0]


@pytest.fixture
def api_store(writing) -> Store:
    return writing[1].open()
