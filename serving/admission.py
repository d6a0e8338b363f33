"""The door: who may come in, decided before anything of a request's body is read.

In this order: is the request meant for this server (421), which address does it ask for, who asks (401, or the
log-in for people), may they (403), and not too often (429)? `limits` then looks at the body, `metrics.Observed`
around both counts what was refused too.

No key, no answer: once a key was ever made, everything but probes, styles, the log-in and signed webhooks needs a
valid one. Before that, only whoever is on this machine is let in, and only while the service is bound to it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from predictive_scoring.errors import InvalidSetting

from .callers import LOCAL, Caller, KeyRing, too_many
from .problems import Refused
from .rates import Buckets
from .scopes import Place, Rule, placed, places
from .sessions import cookie_of, is_same_origin, show_form_token

if TYPE_CHECKING:
    from predictive_scoring.keeping.store.keys import Key

BIND_VARIABLE = "PREDICTIVE_SCORING_BIND"
HOSTS_VARIABLE = "PREDICTIVE_SCORING_HOSTS"
RATE_VARIABLE = "PREDICTIVE_SCORING_RATE"
# A service on the loopback address has no other name. Without this check any web page could reach it by letting
# its own name point to 127.0.0.1 (DNS rebinding).
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
PROBE_SECONDS = 0.5
_FORWARDING = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_READ = frozenset(
    name.encode()
    for name in (*_FORWARDING, "host", "authorization", "x-api-key", "cookie", "origin", "sec-fetch-site")
)
_SAFE = frozenset({"GET", "HEAD"})


@dataclass(frozen=True)
class AdmissionSettings:
    """`is_public`: bound to an address that others reach. `hosts` are its names besides the loopback ones.
    `rate` requests per second of one key in the long run, `burst` at once."""

    is_public: bool = False
    hosts: frozenset[str] = frozenset()
    rate: float = 200.0
    burst: int = 400

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> AdmissionSettings:
        """As the launcher and whoever runs it say. Raises InvalidSetting."""
        bind = environment.get(BIND_VARIABLE) or "loopback"
        if bind not in ("loopback", "public"):
            raise InvalidSetting(
                what=f"{bind!r} is neither loopback nor public", where=BIND_VARIABLE, remedy="Choose one."
            )
        names = (name.strip().lower() for name in environment.get(HOSTS_VARIABLE, "").split(","))
        rate, burst = _rate(environment.get(RATE_VARIABLE) or f"{cls.rate:g}:{cls.burst}")
        return cls(bind == "public", frozenset(name for name in names if name), rate, burst)


def _rate(text: str) -> tuple[float, int]:
    sustained, _, at_once = text.partition(":")
    try:
        rate = float(sustained)
        burst = int(at_once) if at_once else max(1, round(2 * rate))
    except (ValueError, OverflowError):
        rate, burst = 0.0, 0
    if not (0 < rate <= 1e6 and 1 <= burst <= 10**6):
        raise InvalidSetting(
            what=f"{text!r} is no rate",
            where=RATE_VARIABLE,
            remedy="Write requests per second, and at once: 200:400.",
        )
    return rate, burst


class Admission:
    """The middleware. `page` renders a refusal for people."""

    def __init__(
        self,
        app: ASGIApp,
        keys: KeyRing,
        settings: AdmissionSettings,
        page: Callable[[Refused], Response],
    ) -> None:
        self.app, self.keys, self.settings, self.page = app, keys, settings, page
        self._hosts = LOOPBACK_NAMES | settings.hosts
        self._rates = Buckets(settings.rate, settings.burst)
        self._places: tuple[Place, ...] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = headers_of(scope)
        rule, route = self._placed(scope)
        # So that refusals are counted under their route, too.
        if route is not None:
            scope["route"] = route
        try:
            self._check_host(headers)
            caller = await self._caller(scope, headers, rule)
            if caller is not None:
                _check_scope(caller, rule)
            self._check_rate(scope, headers, caller, rule)
            if rule.body == "form" and scope["method"] not in _SAFE:
                _check_origin(headers)
        except Refused as refused:
            await self._refusal(refused, scope, headers, rule)(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["caller"], state["rule"] = caller, rule
        state["near"] = is_near(scope, headers)
        session = caller.session if caller is not None and rule.page else ""
        show_form_token(self.keys.sessions.token(session) if session else "")
        await self.app(scope, receive, send if rule.scopes is None else _unstored(send))

    def _placed(self, scope: Scope) -> tuple[Rule, BaseRoute | None]:
        # Routes are all there when the first request comes.
        self._places = self._places or places(scope["app"].routes)
        return placed(self._places, scope)

    def _check_host(self, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in self._hosts:
            raise Refused(
                "MisdirectedHost",
                "This service does not go by that name.",
                remedy=f"Ask http://127.0.0.1 with its port, or start it with {HOSTS_VARIABLE} set to its names.",
            )

    async def _caller(self, scope: Scope, headers: Mapping[str, str], rule: Rule) -> Caller | None:
        """Who asks; None where nobody has to say. Raises Refused."""
        if rule.scopes is None:
            return await self._perhaps(scope, headers, rule) if rule.tells else None
        found = await self._known(scope, headers, rule)
        if found is None:
            self._take(address_of(scope, headers))
            raise Refused(
                "KeyRequired",
                "There is no key in the request, or it is not valid.",
                where="header authorization",
                remedy="Send Authorization: Bearer psk_…; predictive-scoring keys create makes a key.",
                headers={"www-authenticate": "Bearer"},
            )
        return found

    async def _perhaps(self, scope: Scope, headers: Mapping[str, str], rule: Rule) -> Caller | None:
        """Who asks, if that can be said at once: a probe waits for no store."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await self._known(scope, headers, rule)
        except (Refused, TimeoutError):
            return None

    async def _known(self, scope: Scope, headers: Mapping[str, str], rule: Rule) -> Caller | None:
        shown = shown_key(headers)
        if shown is not None:
            return _caller(await self.keys.present(shown, address_of(scope, headers)))
        # A cookie is sent by the browser, whoever's page asks it to: it opens pages and their forms, nothing else.
        session = cookie_of(headers.get("cookie", ""))
        if session and (scope["method"] in _SAFE or rule.body == "form"):
            key_id = self.keys.sessions.key_id(session, int(time.time()))
            key = None if key_id is None else await self.keys.of_session(key_id)
            if key is not None:
                return _caller(key, session)
        if is_near(scope, headers) and not self.settings.is_public and not await self.keys.is_keyed():
            return LOCAL
        return None

    def _check_rate(
        self, scope: Scope, headers: Mapping[str, str], caller: Caller | None, rule: Rule
    ) -> None:
        if not rule.unlimited:
            self._take(address_of(scope, headers) if caller is None or caller is LOCAL else caller.key_id)

    def _take(self, caller: str) -> None:
        wait = self._rates.take(caller, time.monotonic())
        if wait > 0:
            raise too_many(
                wait,
                f"More than {self.settings.rate:g} requests per second came from one caller.",
                "Wait as long as Retry-After says; put up to 1,000 leads into one request.",
            )

    def _refusal(self, refused: Refused, scope: Scope, headers: Mapping[str, str], rule: Rule) -> Response:
        if refused.name == "NotReady" and not is_near(scope, headers):
            # Why it is not ready names files; that is for whoever runs it.
            refused = Refused("NotReady", "The service is not ready.", headers={"retry-after": "2"})
        if not rule.page or shown_key(headers) is not None:
            return refused.response()
        if refused.name == "KeyRequired":
            wanted = quote(scope["path"], safe="/") if scope["method"] in _SAFE else "/"
            query = scope.get("query_string", b"").decode("latin-1")
            address = urlencode({"next": f"{wanted}?{query}" if query else wanted})
            return RedirectResponse(f"/login?{address}", 303)
        return self.page(refused)


def _unstored(send: Send) -> Send:
    """`send` with word to every cache on the way that the answer is for this caller only."""

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"cache-control", b"no-store")]}
        await send(message)

    return marked


def headers_of(scope: Scope) -> dict[str, str]:
    """The headers that are looked at here. Of a repeated one the last, and no Host where there are two."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        if name in _READ:
            text = name.decode("latin-1")
            found[text] = "" if text == "host" and text in found else value.decode("latin-1")
    return found


def shown_key(headers: Mapping[str, str]) -> str | None:
    """The key in the headers; None where there is none."""
    kind, _, text = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return text.strip()
    other = headers.get("x-api-key")
    if other is None and kind.lower() == "basic":
        # Segment's libraries send their write key as the name of a user without a password.
        with contextlib.suppress(ValueError):
            return base64.b64decode(text.strip(), validate=True).decode("ascii").partition(":")[0]
        return ""
    return other


def address_of(scope: Scope, headers: Mapping[str, str]) -> str:
    """Where a request comes from, as a proxy on this machine says. Of IPv6 the network: a machine has all of it."""
    host = _peer(scope)
    forwarded = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    # Its last entry is the proxy's own; who else is on this machine could only spend other addresses' tokens.
    if forwarded and _is_loopback(host):
        host = forwarded
    try:
        return str(ip_network((host, 64), strict=False)) if ":" in host else host
    except ValueError:
        return "unreadable"


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]).partition("%")[0] if client else ""


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_near(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Whether a request was made on this machine, and not passed on by a proxy here for somebody elsewhere."""
    return _is_loopback(_peer(scope)) and not any(name in headers for name in _FORWARDING)


def _caller(key: Key | None, session: str = "") -> Caller | None:
    return None if key is None else Caller(key.key_id, frozenset(key.scopes), session)


def _check_scope(caller: Caller, rule: Rule) -> None:
    if rule.scopes is not None and not caller.may(rule.scopes):
        needed = " or ".join(sorted(rule.scopes) or ["admin"])
        raise Refused(
            "ScopeMissing",
            f"This takes a key with the scope {needed}.",
            where="header authorization",
            remedy=f"predictive-scoring keys create --scope {min(rule.scopes or ['admin'])} makes one.",
        )


def _check_origin(headers: Mapping[str, str]) -> None:
    if not is_same_origin(headers):
        raise Refused(
            "CrossSiteRequest",
            "The form was sent from a page of another site.",
            remedy="Open the page of this service, and send the form from there.",
        )
