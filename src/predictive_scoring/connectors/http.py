"""The one way out to a CRM: time limits, repeats, fresh tokens, and errors that tell no secret.

A request is repeated after a wait that doubles, with a share of chance so that many clients do not come back
together; `Retry-After` is obeyed (RFC 9110, 10.2.3). What may have been done already is repeated only where doing it
twice is the same as doing it once (`repeatable`), or where the CRM says that it did nothing (429, 423). One deadline
stands over all.

Errors and notes name method, path, status and the CRM's error code. Never a query, a header, a body or a message of the
CRM: these quote tokens, addresses and names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from predictive_scoring.errors import CrmRefused, CrmUnavailable, EnvironmentMissing, InvalidSetting

if TYPE_CHECKING:
    import httpx

NOTHING_DONE = frozenset({423, 429})
"""The CRM says that it did nothing: 429 too many requests, 423 locked for a moment (HubSpot, "Handling errors")."""
PASSING = NOTHING_DONE | {408, 477, 500, 502, 503, 504, 520, 521, 522, 523, 524}
"""Answers worth a repeat (HubSpot, "Handling errors": 477, 5xx, 52x of its front; Salesforce, "Status Codes")."""
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True)
class World:
    """What is read of the world, given by the door: epoch seconds, seconds that only grow, a sleep in seconds, and
    chance in [0, 1)."""

    now: Callable[[], float]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    chance: Callable[[], float]


@dataclass(frozen=True)
class Patience:
    """Limits, in seconds and bytes. The wait before repeat n (from 0) is `first_wait * 2**n`, at most `longest_wait`,
    times a number drawn from [0.5, 1). `deadline` counts from the opening of the way out."""

    attempts: int = 7
    first_wait: float = 0.5
    longest_wait: float = 60.0
    connect: float = 10.0
    answer: float = 60.0
    deadline: float = 7200.0
    largest_answer: int = 256 * 2**20

    def wait(self, repeat: int, chance: float) -> float:
        """Seconds before repeat number `repeat`, for `chance` in [0, 1)."""
        return float(min(self.longest_wait, self.first_wait * 2.0**repeat) * (0.5 + 0.5 * chance))


@dataclass(frozen=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def document(self) -> Any:
        """The body as JSON; None for an empty one. Raises ValueError for half a document."""
        return json.loads(self.body) if self.body.strip() else None

    @property
    def code(self) -> str:
        """The CRM's name for what is wrong, if it has the form of a name: HubSpot's `category`, Salesforce's
        `errorCode`, OAuth's `error`. Free text is never taken: it quotes values."""
        try:
            document = self.document()
        except ValueError:
            return ""
        first = document[0] if isinstance(document, list) and document else document
        if not isinstance(first, dict):
            return ""
        named = (first.get(key) for key in ("category", "errorCode", "error"))
        return next((name for name in named if isinstance(name, str) and _CODE.fullmatch(name)), "")


_CODE = re.compile(r"[A-Za-z][A-Za-z_]{2,59}")


class Token(Protocol):
    """Who we are for the CRM: where it is, and the bearer token."""

    @property
    def base(self) -> str:
        """Scheme and host, without a slash at the end."""

    @property
    def bearer(self) -> str | None:
        """The token; None where one has to be fetched first."""

    def renew(self, grant: Callable[[str, Mapping[str, str]], Any]) -> bool:
        """Fetch a new token with `grant(address, form)`; False where that is not possible."""


class _Half(Exception):
    """An answer that broke off."""


class HttpDoor:
    """Calls to one CRM. `say` is told what is waited for; close it at the end (`opened`)."""

    def __init__(
        self,
        token: Token,
        world: World,
        client: httpx.Client,
        patience: Patience | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._token = token
        self._world = world
        self._client = client
        self._patience = patience or Patience()
        self._say = say
        self._ends = world.monotonic() + self._patience.deadline

    @property
    def world(self) -> World:
        """The clock, sleep and chance in use."""
        return self._world

    def get(self, path: str, query: Mapping[str, str] | None = None, allowed: Sequence[int] = ()) -> Answer:
        """A GET whose answer is JSON; statuses in `allowed` come back instead of being raised."""
        return self.call("GET", path, query=query, repeatable=True, allowed=allowed)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        document: Any = None,
        content: bytes | None = None,
        content_type: str = "application/json",
        repeatable: bool = False,
        json_answer: bool = True,
        allowed: Sequence[int] = (),
    ) -> Answer:
        """One answer of the CRM, after as many attempts as it takes. `repeatable`: doing it twice is the same as once.
        With `json_answer` a body that is no whole JSON document counts as half an answer.

        Raises CrmRefused for a status of 300 or more that a repeat would not change (unless it is in `allowed`), and
        CrmUnavailable when attempts or the time are used up."""
        if not path.startswith("/") or path.startswith("//"):
            raise CrmRefused(
                what="the CRM named an address that is not a path of its own",
                where=f"{method} {_shown(path)}",
                remedy="Check the address of the CRM.",
            )
        body = content if document is None else json.dumps(document, separators=(",", ":")).encode()
        renewed = False
        if self._token.bearer is None:
            self._renew()
            renewed = True

        while True:
            sent = {"Authorization": f"Bearer {self._token.bearer}", "Accept": "application/json, text/csv"}
            if body is not None:
                sent["Content-Type"] = content_type
            answer = self._attempts(
                method, self._token.base, path, query, sent, body, repeatable, json_answer
            )
            if answer.status == 401 and not renewed and self._renew():
                renewed = True
                continue
            if answer.status < 300 or answer.status in allowed:
                return answer
            raise _refused(method, path, answer)

    def pause(self, seconds: float, what: str) -> None:
        """Wait for the CRM to be done with `what`. Raises CrmUnavailable where the deadline comes first."""
        self._wait(seconds, what)

    def _renew(self) -> bool:
        return self._token.renew(self._grant)

    def _grant(self, address: str, form: Mapping[str, str]) -> Any:
        """The answer of a token endpoint. Raises CrmRefused where the credentials are not accepted."""
        from urllib.parse import urlencode

        parts = urlsplit(address)
        sent = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        answer = self._attempts(
            "POST", f"{parts.scheme}://{parts.netloc}", parts.path, None, sent, urlencode(form).encode(), True, True
        )  # fmt: skip
        if answer.status >= 300:
            raise _refused("POST", parts.path, answer)
        return answer.document()

    def _attempts(
        self,
        method: str,
        base: str,
        path: str,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str],
        body: bytes | None,
        repeatable: bool,
        json_answer: bool,
    ) -> Answer:
        import httpx

        where = f"{method} {_shown(path)}"
        for repeat in range(self._patience.attempts):
            asked = 0.0
            try:
                answer = self._once(method, base + path, query, headers, body)
                if json_answer and answer.status < 300:
                    try:
                        answer.document()
                    except ValueError:
                        raise _Half from None
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as refused:
                failed = type(refused).__name__
            except (httpx.TransportError, httpx.DecodingError, _Half) as refused:
                failed = "half an answer" if isinstance(refused, _Half) else type(refused).__name__
                if not repeatable:
                    raise _unsure(where, failed) from None
            else:
                if answer.status not in PASSING:
                    return answer
                failed = f"HTTP {answer.status}"
                if not repeatable and answer.status not in NOTHING_DONE:
                    raise _unsure(where, failed)
                asked = retry_after(answer.headers, self._world.now())
            if repeat + 1 < self._patience.attempts:
                wait = max(asked, self._patience.wait(repeat, self._world.chance()))
                self._wait(wait, f"{where}: {failed}")
        raise CrmUnavailable(
            what=f"no answer after {self._patience.attempts} attempts: {failed}",
            where=where,
            remedy="Try again later; what was fetched or written so far is kept.",
        )

    def _once(
        self,
        method: str,
        address: str,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> Answer:
        """One request, read to its end within the time for an answer."""
        limit = min(self._ends, self._world.monotonic() + self._patience.answer)
        read = bytearray()
        with self._client.stream(
            method, address, params=query, headers=dict(headers), content=body
        ) as answer:
            for piece in answer.iter_bytes():
                read += piece
                # A read limit counts from piece to piece: a byte a second would never meet it.
                if self._world.monotonic() > limit or len(read) > self._patience.largest_answer:
                    raise _Half
            return Answer(answer.status_code, dict(answer.headers), bytes(read))

    def _wait(self, seconds: float, why: str) -> None:
        left = self._ends - self._world.monotonic()
        if seconds >= left:
            raise CrmUnavailable(
                what=f"the time given is used up ({why}; the next attempt would be in {seconds:.0f} seconds)",
                where="--deadline",
                remedy="Run it again later, it goes on where it stopped; or give it more time.",
            )
        self._say(f"{why}; waiting {seconds:.1f} s")
        self._world.sleep(seconds)


@contextmanager
def opened(
    token: Token, world: World, patience: Patience | None = None, say: Callable[[str], None] = lambda _: None
) -> Iterator[HttpDoor]:
    """A way out that is closed at the end. Raises EnvironmentMissing without httpx."""
    limits = patience or Patience()
    with http_client(limits) as client:
        yield HttpDoor(token, world, client, limits, say)


def http_client(patience: Patience | None = None) -> httpx.Client:
    """A client that follows no redirect: a token goes to the address it was given for. Raises EnvironmentMissing
    without httpx."""
    try:
        import httpx
    except ModuleNotFoundError as missing:
        raise EnvironmentMissing(
            what="httpx is not installed, which talks to a CRM",
            where="the extra [crm]",
            remedy='Install it: pip install "predictive-scoring[crm]".',
        ) from missing
    limits = patience or Patience()
    return httpx.Client(
        timeout=httpx.Timeout(limits.answer, connect=limits.connect), follow_redirects=False, http2=False
    )


@contextmanager
def as_published(system: str) -> Iterator[None]:
    """Raises CrmRefused where an answer lacks what the CRM's documentation says is in it."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as odd:
        raise CrmRefused(
            what=f"an answer of {system} has another shape than published ({type(odd).__name__})",
            where=system,
            remedy="Check the address; if it is right, report it with the version of this product.",
        ) from odd


def checked_base(address: str, where: str) -> str:
    """Scheme and host of `address`. Raises InvalidSetting unless it is https, or http on this machine."""
    parts = urlsplit(address)
    secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    if secure and parts.hostname and "@" not in parts.netloc:
        return f"{parts.scheme}://{parts.netloc}"
    raise InvalidSetting(
        what="the address does not begin with https:// and a host",
        where=where,
        remedy="Give it as https://host, without a user: a token must not travel in the open.",
    )


def retry_after(headers: Mapping[str, str], now: float) -> float:
    """Seconds that the CRM asks for: a number, or a date; 0 where it asks for none."""
    said = headers.get("retry-after", "").strip()
    if not said:
        return 0.0
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - now)
    except (ValueError, TypeError):
        return 0.0


def _refused(method: str, path: str, answer: Answer) -> CrmRefused:
    code = f" ({answer.code})" if answer.code else ""
    remedies = {
        400: "The CRM does not accept the content of the request; compare the fields and properties named.",
        401: "Check the token, or the client id, secret and refresh token.",
        403: "Grant the app the scopes that docs/connectors.md lists; or its requests of the day are used up.",
        404: "Check the address, the version of the API and the names of objects and fields.",
    }
    return CrmRefused(
        what=f"the CRM answered HTTP {answer.status}{code}",
        where=f"{method} {_shown(path)}",
        remedy=remedies.get(answer.status, "See the CRM's own log of requests."),
    )


def _unsure(where: str, failed: str) -> CrmUnavailable:
    return CrmUnavailable(
        what=f"the CRM may or may not have done it: {failed}",
        where=where,
        remedy="It is not repeated: doing it twice is not the same as once. Look into the CRM, then run it again.",
    )


def _shown(path: str) -> str:
    """The path without query."""
    return path.split("?")[0]
