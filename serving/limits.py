"""The door before the door: one pure ASGI middleware that sees every request before anything parses it.

In this order: is the request meant for this server (421), does its body claim to be plain JSON (415), is it
small enough (413, counted as it arrives, so a chunked body cannot hide its size), is there room (429), and
does it arrive in time (408)? Only then does the application see it, whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import Refused

# A service on the loopback address has no other name. Without this check any web page could reach it by letting
# its own name point to 127.0.0.1 (DNS rebinding).
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


@dataclass(frozen=True)
class LimitSettings:
    """Sizes in bytes, times in seconds."""

    body: int = 5_000_000
    deadline: float = 10.0
    at_once: int = 64
    hosts: frozenset[str] = LOOPBACK_NAMES


class Limits:
    """The middleware."""

    def __init__(self, app: ASGIApp, settings: LimitSettings | None = None) -> None:
        self.app = app
        self.settings = settings or LimitSettings()
        self._within = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            headers = Headers(scope=scope)
            self._check_host(headers)
            if scope["method"] not in WITH_BODY:
                await self.app(scope, receive, send)
                return
            self._check_headers(headers)
            if self._within >= self.settings.at_once:
                raise Refused(
                    "TooManyRequests",
                    f"{self.settings.at_once} requests are being answered.",
                    remedy="Send fewer at once; put up to 1,000 leads into one request.",
                    headers={"retry-after": "1"},
                )
        except Refused as refused:
            await _refuse(refused, scope, receive, send)
            return
        self._within += 1
        try:
            body = await self._body(receive)
            if body is not None:
                await self.app(scope, _replay(body, receive), send)
        except Refused as refused:
            await _refuse(refused, scope, receive, send)
        finally:
            self._within -= 1

    def _check_host(self, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rsplit(":", 1)[0]
        if name not in self.settings.hosts:
            raise Refused(
                "MisdirectedHost",
                "This service answers on its loopback address only.",
                remedy="Ask http://127.0.0.1 with the port it was started on.",
            )

    def _check_headers(self, headers: Mapping[str, str]) -> None:
        kind, _, parameters = headers.get("content-type", "").partition(";")
        charset = parameters.strip().lower().removeprefix("charset=").strip('"')
        encoded = headers.get("content-encoding", "identity").strip().lower() != "identity"
        # Also what keeps web pages of other origins out: a browser asks first before it sends this type.
        if kind.strip().lower() != "application/json" or charset not in ("", "utf-8") or encoded:
            raise Refused(
                "WrongContentType",
                "The body is not declared as plain UTF-8 application/json.",
                where="header content-type",
                remedy="Send the header content-type: application/json, and no content-encoding.",
            )
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self.settings.body:
            raise self._too_large()

    def _too_large(self) -> Refused:
        return Refused(
            "BodyTooLarge",
            f"The body is larger than {self.settings.body:,} bytes.",
            where="body",
            remedy="Send the leads in several requests.",
            headers={"connection": "close"},
        )

    async def _body(self, receive: Receive) -> bytes | None:
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
                    if size > self.settings.body:
                        raise self._too_large()
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


async def _refuse(refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
    await refused.response()(scope, receive, send)


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
