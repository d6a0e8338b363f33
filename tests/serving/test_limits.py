"""What a body may be, driven by hand-made ASGI messages."""

from __future__ import annotations

import asyncio
import json

import pytest
from serving.limits import Limits, LimitSettings
from serving.scopes import Rule

FORM = Rule(None, "form")
HEADERS = ((b"host", b"127.0.0.1:3000"), (b"content-type", b"application/json"))


async def reading(scope, receive, send):
    """An application that reads its body and tells its size."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(len(body)).encode()})


def ask(messages, *, settings=None, headers=HEADERS, method="POST", limits=None, rule=None):
    """(status, body) of one request whose body arrives as `messages`; a number is a pause in seconds."""
    sent = []
    waiting = list(messages)

    async def receive():
        if waiting and isinstance(waiting[0], float):
            await asyncio.sleep(waiting.pop(0))
        if not waiting:
            return {"type": "http.disconnect"}
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": "/", "headers": list(headers), "state": {"rule": rule}}
    asyncio.run((limits or Limits(reading, settings))(scope, receive, send))
    status = sent[0]["status"] if sent else None
    return status, b"".join(message.get("body", b"") for message in sent)


def test_a_body_in_parts_arrives_whole():
    assert ask([b"ab", b"", b"cde"]) == (200, b"5")


def test_a_chunked_body_cannot_hide_its_size():
    settings = LimitSettings(body=10)
    assert ask([b"x" * 5, b"x" * 5], settings=settings) == (200, b"10")
    status, body = ask([b"x" * 5, b"x" * 6], settings=settings)
    assert status == 413
    assert json.loads(body)["name"] == "BodyTooLarge"


def test_a_declared_size_is_refused_before_the_body_is_read():
    headers = (*HEADERS, (b"content-length", b"11"))
    settings = LimitSettings(body=10, linger=0.05)
    assert ask([30.0, b""], settings=settings, headers=headers)[0] == 413


@pytest.mark.parametrize(
    "messages", [[b"x", 5.0, b"y"], [b"x", 0.03, b"x", 0.03, b"x", 0.03, b"x", 0.03, b"x"]]
)
def test_a_slow_body_is_cut_off_even_when_it_trickles(messages):
    status, body = ask(messages, settings=LimitSettings(deadline=0.08))
    assert status == 408
    assert json.loads(body)["name"] == "BodyTooSlow"


def test_a_client_that_goes_away_gets_no_answer():
    assert ask([]) == (None, b"")


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (b"application/json", 200),
        (b"Application/JSON; charset=UTF-8", 200),
        (b"application/json; charset=latin-1", 415),
        (b"text/plain", 415),
        (b"application/x-www-form-urlencoded", 415),
        (b"multipart/form-data; boundary=x", 415),
        (b"", 415),
    ],
)
def test_a_body_is_json_and_says_so(kind, status):
    assert ask([b"{}"], headers=((b"content-type", kind),))[0] == status


def test_a_compressed_body_is_refused():
    assert ask([b"x"], headers=(*HEADERS, (b"content-encoding", b"gzip")))[0] == 415


def test_where_people_send_forms_a_body_is_a_form_and_small():
    form = ((b"content-type", b"application/x-www-form-urlencoded"),)
    assert ask([b"a=b"], headers=form, rule=FORM)[0] == 200
    assert ask([b"{}"], rule=FORM)[0] == 415
    assert ask([b"x" * 99_999, b"xx"], headers=form, rule=FORM)[0] == 413


def test_more_requests_than_the_service_takes_are_told_to_wait():
    limits = Limits(reading, LimitSettings(at_once=1))
    limits._within = 1
    status, body = ask([b""], limits=limits)
    assert status == 429
    assert json.loads(body)["name"] == "TooManyRequests"
    assert limits._within == 1


def test_every_answered_request_makes_room_again():
    limits = Limits(reading, LimitSettings(at_once=1, body=1, deadline=0.01))
    for messages in ([b"xx"], [5.0, b"x"], [], [b"x"]):
        ask(messages, limits=limits)
    assert limits._within == 0
