"""Who is let in: keys, scopes, rates and names of the host, before anything of a body is read."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving.admission import AdmissionSettings, address_of
from serving.scopes import RULES, Rule, placed, places

from doors import Door, make_key, opened, revoke
from predictive_scoring.errors import InvalidSetting, UnreadableFile
from predictive_scoring.keeping.store.connection import Store
from predictive_scoring.keeping.store.opening import open_store

SCOPES = ("crm", "marketer", "analyst", "admin")
OPEN = {"/livez", "/readyz", "/static", "/login", "/v1/hooks/{source}"}
PLENTY = AdmissionSettings(rate=1e5, burst=10**5)


@pytest.fixture(scope="module")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without a key, to be copied."""
    path = tmp_path_factory.mktemp("empty") / "store.db"
    open_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def store(empty_file: Path, tmp_path: Path) -> Iterator[Store]:
    """A store of the test's own."""
    shutil.copy(empty_file, tmp_path / "store.db")
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    yield opened
    opened.close()


@pytest.fixture
def door_to() -> Iterator[Callable[..., Door]]:
    """`door_to(store, settings)`: doors that are closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(opened(*arguments))


@pytest.fixture(scope="module")
def keyed(
    empty_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Door, dict[str, str]]]:
    """A door with a key of each scope. Read-only."""
    path = tmp_path_factory.mktemp("keyed") / "store.db"
    shutil.copy(empty_file, path)
    store = open_store(f"sqlite:///{path}")
    with opened(store, PLENTY) as door:
        yield door, {scope: make_key(store, [scope]) for scope in SCOPES}
    store.close()


def body_of(method: str, rule: Rule) -> dict:
    """What a request needs so that nothing but its key stands in its way."""
    if method != "POST":
        return {}
    return {"data": {"x": "y"}} if rule.body == "form" else {"json": {}}


def path_of(template: str) -> str:
    if template == "/static":
        return "/static/style.css"
    return re.sub(r"{\w+}", "some-id", template)


EVERY = sorted(RULES.items())


def test_every_route_of_the_application_stands_in_the_table_and_nothing_else_does(keyed):
    door, _ = keyed
    routes = {
        (method, place.template)
        for place in places(door.app.routes)
        for method in place.methods or {"any method"}
        if method != "HEAD"
    }
    assert routes == set(RULES)


@pytest.mark.parametrize(
    ("at", "rule"), EVERY, ids=lambda found: "-".join(found) if isinstance(found, tuple) else ""
)
def test_without_a_key_there_is_no_answer(keyed, at, rule):
    door, _ = keyed
    method, template = at
    answer = door.ask(method, path_of(template), **body_of(method, rule))
    if template in OPEN:
        assert answer.status_code not in (401, 403) or template == "/login"
    elif rule.page:
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login?next=%2F")
        assert answer.content == b""
    else:
        assert (answer.status_code, answer.json()["name"]) == (401, "KeyRequired")
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("scope", SCOPES)
def test_a_key_opens_what_its_scope_may_and_nothing_else(keyed, scope):
    door, keys = keyed
    for (method, template), rule in EVERY:
        if rule.scopes is None:
            continue
        answer = door.ask(method, path_of(template), keys[scope], **body_of(method, rule))
        if scope == "admin" or scope in rule.scopes:
            assert answer.status_code not in (401, 403), (method, template)
        else:
            assert (answer.status_code, answer.json()["name"]) == (403, "ScopeMissing"), (method, template)
            for needed in rule.scopes or ["admin"]:
                assert needed in answer.json()["detail"]


def test_only_who_holds_a_key_learns_what_exists(keyed):
    door, keys = keyed
    for method, path in (("GET", "/v1/nothing"), ("GET", "/.env"), ("DELETE", "/v1/model"), ("BREW", "/")):
        assert door.ask(method, path).status_code in (401, 303)
        assert door.ask(method, path, keys["crm"]).status_code in (404, 405)


def test_a_wrong_key_is_not_told_what_is_wrong_with_it(store, door_to):
    revoked, expired, good = (
        make_key(store, ["admin"]),
        make_key(store, ["admin"], lasts=1),
        make_key(store, ["crm"]),
    )
    revoke(store, revoked)
    door = door_to(store, PLENTY)
    time.sleep(1.1)
    wrong = [
        revoked, expired, good[:-1], good + "x", good.upper(), good[:-5] + "AAAAA", "psk_" + "0" * 12 + good[16:],
        "", " ", "psk_", "Bearer", "x" * 60_000, "é" * 60,
    ]  # fmt: skip
    answers = [
        door.ask("GET", "/v1/model", headers={b"authorization": b"Bearer " + key.encode()}) for key in wrong
    ]
    answers += [
        door.ask("GET", "/v1/model"),
        door.ask("GET", "/v1/model", headers={"authorization": "Basic eDp5"}),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert door.ask("GET", "/v1/model", good).status_code == 503


def test_a_key_may_come_in_either_header(keyed):
    door, keys = keyed
    assert door.ask("GET", "/v1/model", headers={"x-api-key": keys["crm"]}).status_code == 503
    # A proxy in front may have its own use for the other one.
    basic = {"authorization": "Basic eDp5", "x-api-key": keys["crm"]}
    assert door.ask("GET", "/v1/model", headers=basic).status_code == 503
    assert door.ask("GET", f"/v1/model?key={keys['crm']}").status_code == 401


def test_a_key_may_come_as_the_user_of_a_segment_library(keyed):
    door, keys = keyed

    def asked(text: bytes) -> int:
        return door.ask(
            "GET", "/v1/model", headers={"authorization": f"Basic {b64encode(text).decode()}"}
        ).status_code

    assert asked(f"{keys['crm']}:".encode()) == 503
    assert asked(b"psk_made_up:") == asked(b"") == asked("ключ:".encode()) == 401
    assert door.ask("GET", "/v1/model", headers={"authorization": "Basic ???"}).status_code == 401


def test_revoking_and_expiry_take_effect_within_a_second(store, door_to):
    revoked, expiring, staying = (
        make_key(store, ["crm"]),
        make_key(store, ["crm"], lasts=2),
        make_key(store, ["crm"]),
    )
    door = door_to(store, PLENTY)

    def statuses() -> list[int]:
        return [door.ask("GET", "/v1/model", key).status_code for key in (revoked, expiring, staying)]

    assert statuses() == [503, 503, 503]
    revoke(store, revoked)
    began = time.monotonic()
    # In use all the time, and still never believed for longer than a second.
    while time.monotonic() < began + 2.2:
        found = statuses()
        assert found[0] == 401 or time.monotonic() < began + 1.1
        time.sleep(0.2)
    assert statuses() == [401, 401, 503]


def test_while_the_store_cannot_be_read_nobody_is_let_in(store, door_to, tmp_path):
    key = make_key(store, ["admin"])
    door = door_to(store)
    assert door.ask("GET", "/v1/model", key).json()["name"] == "NotReady"
    session = door.app.state.keys.sessions.begin(key.split("_")[1], int(time.time()))
    store.engine.dispose()
    for path in tmp_path.iterdir():
        path.unlink()
    (tmp_path / "store.db").write_text("this is no database" * 1000)
    time.sleep(1.05)
    for options in ({"key": key}, {"headers": {"cookie": f"predictive_scoring_session={session}"}}):
        answer = door.ask("GET", "/v1/model", **options)
        assert (answer.status_code, answer.json()["name"]) == (503, "KeysUnreadable")
        assert "store.db" not in answer.text
    assert door.ask("GET", "/v1/model").status_code == 401
    assert door.ask("GET", "/livez", key).status_code == 200
    # Not even known whether there ever was a key.
    door = door_to(store)
    assert door.ask("GET", "/v1/model").json()["name"] == "KeysUnreadable"


def test_before_the_first_key_this_machine_is_let_in_and_nobody_else(store, door_to):
    door = door_to(store)
    assert door.ask("GET", "/v1/model").status_code == 503
    assert door.ask("DELETE", "/v1/leads/x").status_code not in (401, 403)
    assert door.ask("GET", "/metrics", address="::1").status_code == 200
    assert door.ask("GET", "/v1/model", address="192.0.2.7").status_code == 401
    # A proxy on this machine speaks for somebody elsewhere.
    for header in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"):
        assert door.ask("GET", "/v1/model", headers={header: "192.0.2.7"}).status_code == 401
    # A key that does not exist is wrong even where none is needed.
    assert door.ask("GET", "/v1/model", "psk_nonsense").status_code == 401
    public = door_to(store, AdmissionSettings(is_public=True))
    for (method, template), rule in EVERY:
        if template not in OPEN and not rule.page:
            answer = public.ask(method, path_of(template), **body_of(method, rule))
            assert answer.status_code == 401, (method, template)


def test_the_first_key_closes_the_door_for_good(store, door_to):
    door = door_to(store)
    assert door.ask("GET", "/v1/model").status_code == 503
    key = make_key(store, ["crm"])
    time.sleep(1.05)
    assert door.ask("GET", "/v1/model").status_code == 401
    revoke(store, key)
    assert door.ask("GET", "/v1/model").status_code == 401
    again = door_to(store)
    assert again.ask("GET", "/v1/model").status_code == 401


def test_why_it_is_not_ready_is_told_to_its_operators_only(store, door_to):
    door, secret = door_to(store), "/etc/scoring/scoring.yaml"
    door.state.failure = UnreadableFile(what=f"{secret} cannot be read", where=secret, remedy="Mend it.")
    far = {"address": "192.0.2.7"}
    # The launcher asks from this machine; before the first key everybody here is an operator.
    for answer in (door.ask("GET", "/readyz"), door.ask("GET", "/v1/model")):
        assert (answer.json()["name"], answer.json()["where"]) == ("NotReady", secret)
    key = make_key(store, ["crm"])
    time.sleep(1.05)
    assert door.ask("GET", "/readyz").json()["error"] == "UnreadableFile"
    assert secret in door.ask("GET", "/readyz", key, **far).text
    assert secret not in door.ask("GET", "/readyz", **far).text
    assert door.ask("GET", "/readyz", "psk_wrong", **far).status_code == 503
    # While there is no store, nobody can be known.
    opening = door_to(store)
    opening.state.store, opening.state.failure = None, door.state.failure
    for path, status in (("/readyz", 503), ("/v1/model", 401), ("/", 303)):
        answer = opening.ask("GET", path, **far)
        assert answer.status_code == status
        assert secret not in answer.text
        assert secret in opening.ask("GET", path).text
    answer = opening.ask("GET", "/v1/model", key, **far)
    assert (answer.status_code, answer.json()["name"]) == (503, "NotReady")
    assert secret not in answer.text


# --- rates


def test_who_asks_too_often_is_told_when_to_come_back(store, door_to):
    one, other = make_key(store, ["crm"]), make_key(store, ["crm"])
    door = door_to(store, AdmissionSettings(rate=0.5, burst=3))
    assert [door.ask("GET", "/v1/model", one).status_code for _ in range(4)] == [503, 503, 503, 429]
    answer = door.ask("GET", "/v1/model", one)
    assert answer.json()["name"] == "TooManyRequests"
    assert 1 <= int(answer.headers["retry-after"]) <= 2
    # Nobody else waits for that, and probes never do.
    assert door.ask("GET", "/v1/model", other).status_code == 503
    assert [door.ask("GET", "/livez", one).status_code for _ in range(5)] == [200] * 5
    # Without a key the address counts.
    assert [door.ask("GET", "/v1/model").status_code for _ in range(4)] == [401, 401, 401, 429]
    assert door.ask("GET", "/v1/model", address="192.0.2.8").status_code == 401


def test_guessing_keys_is_slow_and_does_not_keep_out_those_who_have_one(store, door_to):
    good = make_key(store, ["crm"])
    door = door_to(store, PLENTY)
    assert door.ask("GET", "/v1/model", good).status_code == 503
    guesses = [f"psk_{number:012x}_{'A' * 43}" for number in range(200)]
    statuses = [door.ask("GET", "/v1/model", guess).status_code for guess in guesses]
    assert statuses[:20] == [401] * 20
    assert statuses.count(429) >= 170
    assert door.ask("GET", "/v1/model", good).status_code == 503
    # A wrong key leaves nothing behind.
    assert len(door.app.state.keys._known) <= 2
    assert door.ask("GET", "/v1/model", guesses[0], address="2001:db8::1").status_code == 401


@pytest.mark.parametrize(
    ("address", "forwarded", "counted"),
    [
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("::1", "10.9.9.9, 192.0.2.1", "192.0.2.1"),
        ("192.0.2.9", "192.0.2.1", "192.0.2.9"),
        ("2001:db8::1:2:3:4", None, "2001:db8::/64"),
        ("127.0.0.1", "2001:db8::ffff", "2001:db8::/64"),
        ("127.0.0.1", "a:b:c", "unreadable"),
        ("fe80::1%eth0", None, "fe80::/64"),
    ],
)
def test_whose_tokens_a_request_takes(address, forwarded, counted):
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    assert address_of({"client": (address, 1)}, headers) == counted


# --- names of the host


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:3000", "", "127.0.0.1.evil.example", "[::2]:80", ":80"]
)
def test_a_foreign_host_is_refused_whoever_asks(keyed, host):
    door, keys = keyed
    for path in ("/v1/model", "/", "/livez", "/login", "/static/style.css"):
        assert door.ask("GET", path, keys["admin"], headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:3000", "[::1]:3000", "[::1]", "127.0.0.1"])
def test_every_name_of_the_loopback_address_is_taken(keyed, host):
    door, keys = keyed
    assert door.ask("GET", "/v1/model", keys["crm"], headers={"host": host}).status_code == 503


def test_a_service_goes_by_the_names_it_was_given(store, door_to):
    key = make_key(store, ["crm"])
    names = {"PREDICTIVE_SCORING_BIND": "public", "PREDICTIVE_SCORING_HOSTS": " Scoring.Example , 192.0.2.1"}
    door = door_to(store, AdmissionSettings.from_environment(names))
    for host, status in (
        ("scoring.example:8443", 503),
        ("192.0.2.1", 503),
        ("example", 421),
        ("127.0.0.1", 503),
    ):
        assert door.ask("GET", "/v1/model", key, headers={"host": host}).status_code == status


def test_two_hosts_are_none(keyed):
    door, keys = keyed
    headers = [("host", "127.0.0.1"), ("host", "127.0.0.1")]
    assert raw(door, "GET", "/v1/model", keys["crm"], headers)[0] == 421


@pytest.mark.parametrize(
    "named",
    [
        {"PREDICTIVE_SCORING_BIND": "everywhere"},
        *(
            {"PREDICTIVE_SCORING_RATE": text}
            for text in ("0", "-1", "x", "1:", "1:0", "nan", "inf", "1:2:3", "1:1e3")
        ),
    ],
)
def test_impossible_settings_are_refused_by_name(named):
    if named == {"PREDICTIVE_SCORING_RATE": "1:"}:
        assert AdmissionSettings.from_environment(named).burst == 2
        return
    with pytest.raises(InvalidSetting) as refused:
        AdmissionSettings.from_environment(named)
    assert refused.value.where == next(iter(named))


# --- nothing of a refused request is read


def raw(door, method, path, key, headers):
    """(status, whether the body was asked for) of a hand-made request."""
    asked, sent = [], []

    async def receive():
        asked.append(True)
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message):
        sent.append(message)

    if key is not None:
        headers = [*headers, ("authorization", f"Bearer {key}")]
    scope = {
        "type": "http", "method": method, "path": path, "query_string": b"", "client": ("127.0.0.1", 1),
        "scheme": "http", "headers": [(name.encode(), value.encode()) for name, value in headers],
    }  # fmt: skip
    door.run(door.app(scope, receive, send))
    return sent[0]["status"], bool(asked)


def test_a_body_is_read_only_after_everything_else_was_looked_at(keyed):
    door, keys = keyed
    host, json = ("host", "127.0.0.1"), ("content-type", "application/json")
    for status, key, headers in (
        (421, keys["crm"], [("host", "evil.example"), json]),
        (401, None, [host, json]),
        (401, "psk_wrong", [host, json]),
        (403, keys["marketer"], [host, json]),
        (415, keys["crm"], [host, ("content-type", "text/plain")]),
    ):
        assert raw(door, "POST", "/v1/events", key, headers) == (status, False)
    assert raw(door, "POST", "/v1/events", keys["crm"], [host, json])[1]


def test_a_websocket_is_closed(keyed):
    door, _ = keyed
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(door.app({"type": "websocket", "path": "/", "headers": []}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


ODD_PATHS = [
    "/v1/leads/a/history",
    "/v1/leads/a/b/history",
    "/v1/leads/history",
    "/v1/leads/a/subject",
    "/v1/leads/a/subject/",
    "/v1/leads//subject",
    "/v1/leads/",
    "/v1/leads",
    "//v1/leads",
    "/v1/./leads",
    "/V1/leads",
    "/v1/leads/a/touches/b",
    "/v1/leads/a/feedback",
    "/leads/a/feedback",
    "/leads/a",
    "/leads/",
    "/static",
    "/static/x",
    "/v1/jobs/a/b",
    "/v1/hooks/a",
    "/v1/hooks/",
    "/",
    "/login/",
    "/login",
    "/openapi.json",
    "/v1/scores/x",
]


@pytest.mark.parametrize(
    "path", [*ODD_PATHS, "", "/docs\n", "/v1/leads/a/history\n", "/v1/leads/\u2028/subject"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "HEAD", "PUT"])
def test_the_route_that_is_judged_is_the_route_that_answers(keyed, path, method):
    door, _ = keyed
    asked = {
        "type": "http", "method": method, "path": path, "query_string": b"", "headers": [(b"host", b"x")],
        "client": ("127.0.0.1", 1), "app": door.app, "scheme": "http", "state": {}, "root_path": "",
    }  # fmt: skip
    _, judged = placed(places(door.app.routes), asked)

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        pass

    async def answering():
        # Without a model most handlers refuse; to whom the request was sent is all that counts here.
        with contextlib.suppress(Exception):
            await door.app.router(asked, receive, send)
        return asked.get("route")

    answered = door.run(answering())
    if answered is None and judged is not None:
        # These do not say that they were chosen.
        assert judged.path in ("/static", "/openapi.json")
    else:
        assert getattr(answered, "path", None) == getattr(judged, "path", None)
