"""Sessions of people who log in with a key, and the tokens that protect their forms.

A session is a signed text in a cookie: `<key id>.<expiry>.<random>.<signature>`. Nothing of it is kept here and
nothing of it is personal; whether its key is still valid is asked on each request, so revoking the key ends it.
Both signatures are HMAC-SHA256 under keys of their own, derived from the store's secret.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from contextvars import ContextVar
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders

COOKIE = "predictive_scoring_session"
FIELD = "csrf"
"""Name of the hidden field that carries a form's token."""
LASTS = 12 * 3600
"""Seconds from the log-in to the end of a session."""
MOST_ADDRESS = 500
_FORM = re.compile(r"([0-9a-f]{12})\.([0-9]{1,12})\.[0-9a-f]{32}\.[0-9a-f]{64}", re.ASCII)
_LOCAL_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")

_form_token: ContextVar[str] = ContextVar("form_token", default="")


def form_token() -> str:
    """The token for forms of the page that is being rendered; empty where nobody is logged in."""
    return _form_token.get()


def show_form_token(token: str) -> None:
    """Give the request under way its token."""
    _form_token.set(token)


class Sessions:
    """Signs and reads sessions under the store's secret."""

    def __init__(self, secret: bytes) -> None:
        self._keys = {
            purpose: hmac.digest(secret, f"predictive_scoring {purpose}".encode(), "sha256")
            for purpose in ("session", "form")
        }

    def begin(self, key_id: str, now: int) -> str:
        """The text of a new session for the holder of a key; `now` in epoch seconds."""
        text = f"{key_id}.{now + LASTS}.{secrets.token_hex(16)}"
        return f"{text}.{self._sign('session', text)}"

    def key_id(self, session: str, now: int) -> str | None:
        """The key that a session was begun with; None for one that is over, or was not signed here."""
        form = _FORM.fullmatch(session)
        if form is None:
            return None
        text, _, signature = session.rpartition(".")
        if not hmac.compare_digest(self._sign("session", text), signature):
            return None
        return form[1] if now < int(form[2]) else None

    def token(self, session: str) -> str:
        """The token of all forms within one session."""
        return self._sign("form", session)

    def is_token(self, session: str, sent: str) -> bool:
        """Whether this session's pages gave out the token."""
        return hmac.compare_digest(self.token(session).encode(), sent.encode("utf-8", "replace"))

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.digest(self._keys[purpose], text.encode(), "sha256").hex()


def set_cookie(headers: MutableHeaders, session: str, *, secure: bool) -> None:
    """Keep a session in the browser, or with an empty one end it there.

    Scripts cannot read it and other sites' pages cannot send it."""
    lasts = LASTS if session else 0
    text = f"{COOKIE}={session}; Path=/; Max-Age={lasts}; HttpOnly; SameSite=Strict"
    headers.append("set-cookie", f"{text}; Secure" if secure else text)


def cookie_of(header: str) -> str:
    """The session within a Cookie header; empty without one."""
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def local_path(address: str | None) -> str:
    """Where to go after a log-in: a path of this service, else the first page."""
    if address and len(address) <= MOST_ADDRESS and _LOCAL_PATH.fullmatch(address):
        return address
    return "/"


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Whether a request comes from a page of this service, as far as its browser says.

    Browsers send at least one of the two headers with every form; what sends neither is no browser, and has no
    cookie that somebody else could use."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
