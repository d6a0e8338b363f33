"""People: logging in with a key, what the session opens, and what protects their forms from other sites' pages."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving.admission import AdmissionSettings
from serving.sessions import COOKIE, LASTS, Sessions, cookie_of, local_path

from doors import Door, make_key, revoke
from predictive_scoring.keeping.store.opening import open_store

PLENTY = AdmissionSettings(rate=1e5, burst=10**5)
OURS = {"origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-origin"}
NOW = 1_800_000_000
SESSIONS = Sessions(b"s" * 32)


class People:
    """A door, a marketer's key and the session that the log-in answers with."""

    def __init__(self, folder: Path) -> None:
        self.store = open_store(f"sqlite:///{folder / 'store.db'}")
        self.door = Door(self.store, PLENTY)
        self.key = make_key(self.store, ["marketer"])

    def log_in(self, key: str | None = None, **more):
        form = {"key": self.key if key is None else key, "next": more.pop("next", "/")}
        return self.door.ask("POST", "/login", data=form, headers={**OURS, **more})

    def session(self, key: str | None = None) -> dict[str, str]:
        return {"cookie": self.log_in(key).headers["set-cookie"].split(";")[0]}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    made = People(tmp_path_factory.mktemp("people"))
    yield made
    made.door.close()
    made.store.close()


def test_who_opens_a_page_is_led_to_the_log_in_and_back(people):
    led = people.door.ask("GET", "/leads/L-1%2F2?stage=decision")
    assert (led.status_code, led.headers["location"]) == (
        303,
        "/login?next=%2Fleads%2FL-1%2F2%3Fstage%3Ddecision",
    )
    form = people.door.ask("GET", led.headers["location"])
    assert form.status_code == 200
    assert 'name="next" value="/leads/L-1/2?stage=decision"' in form.text
    answer = people.log_in(next="/leads/L-1/2?stage=decision")
    assert (answer.status_code, answer.headers["location"]) == (303, "/leads/L-1/2?stage=decision")
    session = {"cookie": answer.headers["set-cookie"].split(";")[0]}
    assert people.door.ask("GET", "/", headers=session).status_code == 503
    # What a page links to opens with it, too.
    assert people.door.ask("GET", "/v1/leads/x", headers=session).status_code == 503
    assert people.door.ask("GET", "/v1/scores", headers=session).status_code == 403


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(people):
    cookie = people.log_in().headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/", f"Max-Age={LASTS}"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert "Secure" in people.log_in(**{"x-forwarded-proto": "https"}).headers["set-cookie"].split("; ")
    assert people.key not in cookie
    assert people.key.split("_")[2] not in cookie


@pytest.mark.parametrize("key", ["", "psk_", "psk_000000000000_" + "A" * 43, "é"])
def test_a_wrong_key_begins_no_session_and_is_not_shown_again(people, key):
    answer = people.log_in(key)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "This key is not valid" in answer.text
    assert len(key) < 5 or key not in answer.text


def test_a_key_for_programs_is_told_so(people):
    answer = people.log_in(make_key(people.store, ["crm"]))
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_revoking_the_key_ends_the_session(people):
    key = make_key(people.store, ["analyst"])
    session = people.session(key)
    assert people.door.ask("GET", "/", headers=session).status_code == 503
    revoke(people.store, key)
    time.sleep(1.05)
    assert people.door.ask("GET", "/", headers=session).status_code == 303
    assert people.door.ask("GET", "/v1/model", headers=session).status_code == 401


def test_a_session_writes_nothing_but_forms(people):
    session = people.session(make_key(people.store, ["admin"]))
    assert people.door.ask("GET", "/v1/model", headers=session).status_code == 503
    for method, path in (
        ("POST", "/v1/score"),
        ("POST", "/v1/events"),
        ("DELETE", "/v1/leads/x"),
        ("POST", "/v1/jobs"),
    ):
        options = {"json": {}} if method == "POST" else {}
        assert people.door.ask(method, path, headers={**session, **OURS}, **options).status_code == 401


def test_logging_out_takes_the_token_of_the_session(people):
    session = people.session()
    page = people.door.ask("GET", "/", headers=session).text
    token = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)[1]
    other = people.session()
    for form in ({"x": "y"}, {"csrf": ""}, {"csrf": "0" * 64}, {"csrf": "é"}):
        assert people.door.ask("POST", "/logout", data=form, headers={**session, **OURS}).status_code == 403
    assert (
        people.door.ask("POST", "/logout", data={"csrf": token}, headers={**other, **OURS}).status_code == 403
    )
    answer = people.door.ask("POST", "/logout", data={"csrf": token}, headers={**session, **OURS})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert f"{COOKIE}=;" in answer.headers["set-cookie"]
    assert "Max-Age=0" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    "sent",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:3000"},
        {"sec-fetch-site": "none"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:3001"},
        {"origin": "null"},
        {"origin": ""},
    ],
)
def test_a_form_on_another_sites_page_is_refused(people, sent):
    answer = people.door.ask("POST", "/login", data={"key": people.key}, headers=sent)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert "another site" in answer.text


@pytest.mark.parametrize("content", [b"\xff\xfe", b"key=%ff", b"&".join([b"x=1"] * 200)])
def test_a_form_that_cannot_be_read_is_refused(people, content):
    headers = {**OURS, "content-type": "application/x-www-form-urlencoded"}
    assert people.door.ask("POST", "/login", content=content, headers=headers).status_code == 422


def test_a_form_is_a_form_and_small(people):
    assert people.door.ask("POST", "/login", json={"key": people.key}, headers=OURS).status_code == 415
    assert people.door.ask("POST", "/login", data={"key": "x" * 200_000}, headers=OURS).status_code == 413
    assert people.door.ask("POST", "/v1/score", people.key, data={"x": "y"}).status_code == 415


def test_pages_for_people_are_kept_by_no_cache_and_run_no_scripts(people):
    session = people.session()
    for path in ("/", "/leads/x", "/docs", "/v1/model"):
        answer = people.door.ask("GET", path, headers=session)
        assert answer.headers["cache-control"] == "no-store"
        assert "script-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in people.door.ask("GET", "/login").text


@pytest.mark.parametrize(
    "address",
    [
        "//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "leads", "", None, "/a\nb",
        "/a b", "/\t/evil.example", "/é", "/a\\..\\b", "/" + "x" * 600, "\\/evil.example", " //evil.example",
    ],
)  # fmt: skip
def test_nobody_is_sent_elsewhere_after_the_log_in(people, address):
    assert local_path(address) == "/"
    if address is not None:
        assert people.log_in(next=address).headers["location"] == "/"


@given(st.text(max_size=50))
def test_where_one_is_sent_begins_with_exactly_one_slash(address):
    found = local_path("/" + address)
    assert re.fullmatch(r"/(?:[!-.0-\[\]-~][!-\[\]-~]*)?", found)


# --- the signed text


def test_a_session_is_read_until_it_ends():
    session = SESSIONS.begin("0f3a9c51d2b7", NOW)
    assert SESSIONS.key_id(session, NOW) == "0f3a9c51d2b7"
    assert SESSIONS.key_id(session, NOW + LASTS - 1) == "0f3a9c51d2b7"
    assert SESSIONS.key_id(session, NOW + LASTS) is None


@given(st.data())
def test_a_session_that_was_touched_is_none(data):
    session = SESSIONS.begin("0f3a9c51d2b7", NOW)
    place = data.draw(st.integers(0, len(session) - 1))
    other = data.draw(st.characters().filter(lambda letter: letter != session[place]))
    assert SESSIONS.key_id(session[:place] + other + session[place + 1 :], NOW) is None
    assert Sessions(b"t" * 32).key_id(session, NOW) is None
    assert SESSIONS.token(session) != session.rpartition(".")[2]


@given(st.text())
def test_any_cookie_header_can_be_read(header):
    assert SESSIONS.key_id(cookie_of(header), NOW) is None
    assert cookie_of(f"a=b; {COOKIE}=found; c=d") == "found"
