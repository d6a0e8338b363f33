"""What a body may be: its type, its size and its time, before anything parses it.

In this order: does it claim to be what its address takes (415), is it small enough (413, counted as it arrives,
so a chunked body cannot hide its size), is there room (429), and does it arrive in time (408)? Only then does
the application see it, whole.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .callers import Caller
from .problems import Refused
from .scopes import Rule

WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
MOST_FORM = 100_000
"""Bytes of a form that a person sends."""
MOST_DISCARDED = 10
"""How many times the largest body is read and thrown away of one that is too large."""


@dataclass(frozen=True)
class LimitSettings:
    """Sizes in bytes, times in seconds. `at_once` requests are answered together, half of them of one caller."""

    body: int = 5_000_000
    deadline: float = 10.0
    at_once: int = 64
    linger: float = 1.0
    """How long the next part of a body is waited for that was refused already."""


class Limits:
    """The middleware."""

    def __init__(self, app: ASGIApp, settings: LimitSettings | None = None) -> None:
        self.app = app
        self.settings = settings or LimitSettings()
        self._within = 0
        self._of: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in WITH_BODY:
            await self.app(scope, receive, send)
            return
        rule: Rule | None = scope.get("state", {}).get("rule")
        is_form = rule is not None and rule.body == "form"
        most = min(MOST_FORM, self.settings.body) if is_form else self.settings.body
        try:
            self._check_headers(Headers(scope=scope), is_form, most)
            caller = _caller_of(scope)
            if self._within >= self.settings.at_once or self._of[caller] >= (self.settings.at_once + 1) // 2:
                raise Refused(
                    "TooManyRequests",
                    f"{self._of[caller]} requests of one caller are being answered, {self._within} together.",
                    remedy="Send fewer at once; put up to 1,000 leads into one request.",
                    headers={"retry-after": "1"},
                )
        except Refused as refused:
            await self._refuse(refused, scope, receive, send)
            return
        self._within += 1
        self._of[caller] += 1
        try:
            body = await self._body(receive, most)
            if body is not None:
                await self.app(scope, _replay(body, receive), send)
        except Refused as refused:
            await self._refuse(refused, scope, receive, send)
        finally:
            self._within -= 1
            self._of[caller] -= 1
            if not self._of[caller]:
                del self._of[caller]

    async def _refuse(self, refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer. A client that still sends a body that is too large hears it before the connection is closed."""
        if refused.name != "BodyTooLarge":
            await refused.response()(scope, receive, send)
            return

        async def unfinished(message: Message) -> None:
            await send({**message, "more_body": True} if message["type"] == "http.response.body" else message)

        await refused.response()(scope, receive, unfinished)
        await self._discard(receive)
        await send({"type": "http.response.body"})

    async def _discard(self, receive: Receive) -> None:
        """Read on for a while: a connection closed over unread bytes is reset, and the answer with it."""
        unread = MOST_DISCARDED * self.settings.body
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.deadline):
                while unread > 0:
                    message = await asyncio.wait_for(receive(), self.settings.linger)
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        return
                    unread -= len(message.get("body", b""))

    def _check_headers(self, headers: Mapping[str, str], is_form: bool, most: int) -> None:
        kind, _, parameters = headers.get("content-type", "").partition(";")
        charset = parameters.strip().lower().removeprefix("charset=").strip('"')
        encoded = headers.get("content-encoding", "identity").strip().lower() != "identity"
        # JSON is also what keeps web pages of other origins out: a browser asks first before it sends this type.
        wanted = "application/x-www-form-urlencoded" if is_form else "application/json"
        if kind.strip().lower() != wanted or charset not in ("", "utf-8") or encoded:
            raise Refused(
                "WrongContentType",
                f"The body is not declared as plain UTF-8 {wanted}.",
                where="header content-type",
                remedy=f"Send the header content-type: {wanted}, and no content-encoding.",
            )
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            raise _too_large(most)

    async def _body(self, receive: Receive, most: int) -> bytes | None:
        """The whole body, or None when the client went away."""
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.settings.deadline):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    part = message.get("body", b"")
                    size += len(part)
                    if size > most:
                        raise _too_large(most)
                    parts.append(part)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError as late:
            raise Refused(
                "BodyTooSlow",
                f"The body did not arrive within {self.settings.deadline:g} seconds.",
                where="body",
                remedy="Send the request again, with fewer leads if the line is slow.",
                headers={"connection": "close"},
            ) from late


def _caller_of(scope: Scope) -> str:
    caller: Caller | None = scope.get("state", {}).get("caller")
    return (scope.get("client") or ("",))[0] if caller is None else caller.key_id


def _too_large(most: int) -> Refused:
    return Refused(
        "BodyTooLarge",
        f"The body is larger than {most:,} bytes.",
        where="body",
        remedy="Send the leads in several requests.",
        headers={"connection": "close"},
    )


def _replay(body: bytes, receive: Receive) -> Receive:
    """`receive` with the body already read; later calls wait for the disconnect as usual."""
    unread = True

    async def replayed() -> Message:
        nonlocal unread
        if unread:
            unread = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replayed
