"""The middleware before everything, driven by hand-made ASGI messages."""

from __future__ import annotations

import asyncio
import json

import pytest
from serving.limits import Limits, LimitSettings

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


def ask(messages, *, settings=None, headers=HEADERS, method="POST", limits=None):
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

    scope = {"type": "http", "method": method, "path": "/", "headers": list(headers)}
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
    assert ask([30.0, b""], settings=LimitSettings(body=10), headers=headers)[0] == 413


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
    "host", [b"evil.example", b"evil.example:3000", b"", b"127.0.0.1.evil.example", b"[::2]:80"]
)
def test_a_foreign_host_is_refused(host):
    headers = ((b"host", host), HEADERS[1])
    assert ask([b""], headers=headers)[0] == 421
    assert ask([b""], headers=headers, method="GET")[0] == 421


@pytest.mark.parametrize("host", [b"localhost", b"LOCALHOST:3000", b"[::1]:3000", b"[::1]", b"127.0.0.1"])
def test_every_name_of_the_loopback_address_is_taken(host):
    assert ask([b""], headers=((b"host", host), HEADERS[1]))[0] == 200


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
