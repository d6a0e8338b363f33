"""Logging in as a person does, with a browser that keeps cookies and tells where forms come from."""

from __future__ import annotations

import re
import threading
import time

import pytest
import uvicorn
from serving.admission import AdmissionSettings

from doors import Door, make_key
from predictive_scoring.keeping.store.opening import open_store

pytestmark = pytest.mark.browser
PUBLIC = "scoring.test"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """The port of a service with keys and no model, and a marketer's key."""
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('guarded') / 'store.db'}")
    door = Door(store, AdmissionSettings(is_public=True, hosts=frozenset({PUBLIC})))
    options = {"host": "127.0.0.1", "port": 0, "log_level": "warning", "lifespan": "off"}
    server = uvicorn.Server(uvicorn.Config(door.app, **options))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < until
        time.sleep(0.02)
    yield server.servers[0].sockets[0].getsockname()[1], make_key(store, ["marketer"])
    server.should_exit = True
    thread.join(30)
    door.close()
    store.close()


# Under a name that is not this machine's own, over plain HTTP, a browser tells the origin only.
@pytest.mark.parametrize("host", ["127.0.0.1", PUBLIC])
def test_a_person_logs_in_comes_where_they_wanted_and_logs_out(browser, guarded, host):
    port, key = guarded
    page = browser.new_context().new_page()
    root = f"http://{host}:{port}"
    page.goto(f"{root}/leads/L-1?from=mail")
    assert "/login?" in page.url
    page.get_by_label("Key").fill("psk_wrong")
    page.get_by_role("button", name="Log in").click()
    assert "This key is not valid" in page.content()
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Log in").click()
    assert page.url == f"{root}/leads/L-1?from=mail"
    # There is no model behind this door; what matters is that it opened.
    assert "being loaded" in page.content()
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    page.get_by_role("button", name="Log out").click()
    assert re.fullmatch(rf"{re.escape(root)}/login", page.url)
    assert page.context.cookies() == []
    page.goto(f"{root}/")
    assert "/login?" in page.url
    page.context.close()
