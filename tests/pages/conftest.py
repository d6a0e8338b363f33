"""A real server on a real port, and a real browser."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import uvicorn
from serving.app import create_app
from serving.state import Serving, ServingState

from stored_project import copied_store

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Chromium runs as root in containers, and must not ask its maker for anything meanwhile.
OPTIONS = ["--no-sandbox", "--disable-quic", "--disable-background-networking"]
# A name that is not the loopback address's own, for what browsers do differently there.
OPTIONS += ["--host-resolver-rules=MAP scoring.test 127.0.0.1"]


@dataclass(frozen=True)
class Site:
    """Where the pages are, and what they show."""

    root: str
    serving: Serving


@pytest.fixture(scope="session")
def site(small_champion, stored_champion, tmp_path_factory) -> Iterator[Site]:
    database = copied_store(stored_champion, tmp_path_factory.mktemp("store"))
    state = ServingState(small_champion.file, small_champion.models, database=database)
    server = uvicorn.Server(uvicorn.Config(create_app(state), host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 120
    while not server.started or state.serving is None:
        assert state.failure is None, state.failure
        assert time.monotonic() < until, "the model did not load in time"
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Site(f"http://127.0.0.1:{port}", state.serving)
    server.should_exit = True
    thread.join(30)


# Of the module, not of the session: while it lives its event loop runs in this thread, and a test of another
# module that the same worker is given could not run one of its own.
@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        reason = f"no browser on the PATH ({', '.join(BROWSERS)}); install the package chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        yield started
        started.close()


class Visit:
    """One tab; remembers what went wrong in it and whom it asked."""

    def __init__(self, page, root: str) -> None:
        self.page, self.root = page, root
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", self._failed)
        page.on("request", lambda request: self.asked.append(request.url))

    def _failed(self, request) -> None:
        # Leaving a page while it still loads its icon is no failure.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"failed: {request.url} {request.failure}")

    def go(self, path: str) -> int:
        """The status of the page at `path`."""
        return self.page.goto(self.root + path).status

    def all(self, selector: str):
        return self.page.locator(selector).all()

    def texts(self, selector: str) -> list[str]:
        return [text.strip() for text in self.page.locator(selector).all_inner_texts()]

    def drawn(self, selector: str) -> list[str]:
        """Texts within a drawing, which have no inner text."""
        return [text.strip() for text in self.page.locator(selector).all_text_contents()]


@pytest.fixture(params=[True, False], ids=["scripts on", "scripts off"])
def visit(request, browser, site) -> Iterator[Visit]:
    context = browser.new_context(java_script_enabled=request.param, viewport={"width": 1280, "height": 900})
    found = Visit(context.new_page(), site.root)
    yield found
    context.close()
    assert all(url.startswith(site.root + "/") for url in found.asked), found.asked
    assert found.complaints == []
