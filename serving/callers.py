"""Who asks: keys as the store knows them, remembered for at most a second.

A key's text is never kept, only its SHA-256. Keys that are not valid are not remembered, so guessing fills no
memory; an address that presents many of them has to wait.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from starlette.requests import Request

from predictive_scoring.errors import PredictiveScoringError

from .problems import Refused
from .rates import Buckets
from .sessions import Sessions

if TYPE_CHECKING:
    # The database's library is heavy; it is there once a store is open, and nothing is asked before.
    from predictive_scoring.keeping.store.connection import Store, Transaction
    from predictive_scoring.keeping.store.keys import Key

MOST_AGE = 1.0
"""Seconds for which an answer of the store holds: so long may a revoked key live on."""
MOST_KEYS = 1000
"""Answers remembered."""
MOST_ASKED = 64
"""Questions to the store under way for keys that are not remembered."""
PATIENCE = 5.0
"""Seconds that a request waits for the store."""
ATTEMPTS, ATTEMPTS_AT_ONCE = 1.0, 20
"""Wrong keys per second, and at once, from one address."""

T = TypeVar("T")


@dataclass(frozen=True)
class Caller:
    """Who a request is answered for. `session` is set for somebody who logged in on the page."""

    key_id: str
    scopes: frozenset[str]
    session: str = field(default="", repr=False)

    def may(self, allowed: frozenset[str]) -> bool:
        """Whether one of the scopes is held; `admin` may everything."""
        return not self.scopes.isdisjoint(allowed) or "admin" in self.scopes


LOCAL = Caller("local", frozenset({"crm", "marketer", "analyst", "admin"}))
"""Whoever asks from this machine while no key was ever made."""


def caller_of(request: Request) -> Caller | None:
    """Who asks; None where an address takes everybody and nobody showed a key."""
    caller: Caller | None = getattr(request.state, "caller", None)
    return caller


def is_told(request: Request) -> bool:
    """Whether the caller may hear names of files and settings: somebody with a key, or on this machine."""
    return caller_of(request) is not None or bool(getattr(request.state, "near", False))


def keys_of(request: Request) -> KeyRing:
    """The application's keys."""
    keys: KeyRing = request.app.state.keys
    return keys


def too_many(wait: float, detail: str, remedy: str) -> Refused:
    """429 with the whole seconds to wait, at least one."""
    return Refused(
        "TooManyRequests", detail, remedy=remedy, headers={"retry-after": str(max(1, math.ceil(wait)))}
    )


class KeyRing:
    """The keys of a store, as of at most `MOST_AGE` seconds ago. Belongs to one event loop.

    `store` gives the open store, or raises Refused while there is none."""

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store
        self._known: dict[str, tuple[float, Any]] = {}
        self._asked: dict[str, asyncio.Task[Any]] = {}
        self._attempts = Buckets(ATTEMPTS, ATTEMPTS_AT_ONCE)
        # Few: a store that hangs must not take the threads of everybody else.
        self._threads = anyio.CapacityLimiter(4)
        self._keyed = False
        self._sessions: Sessions | None = None

    @property
    def sessions(self) -> Sessions:
        """The sessions of this store. Raises Refused."""
        if self._sessions is None:
            self._sessions = Sessions(self._store().secret)
        return self._sessions

    async def is_keyed(self) -> bool:
        """Whether the store ever held a key. Raises Refused."""
        # A key's row never goes, so a yes is for good.
        self._keyed = self._keyed or await self._ask("any", _was_keyed)
        return self._keyed

    async def present(self, text: str, address: str) -> Key | None:
        """The valid key of this text, shown from `address`. Raises Refused."""
        name = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
        is_new = name not in self._known
        if is_new:
            wait = self._attempts.take(address, time.monotonic())
            if wait > 0:
                raise too_many(
                    wait, "Too many wrong keys came from this address.", "Check the key, then try again."
                )
        key = await self._ask(name, partial(_checked, text))
        if key is None:
            self._known.pop(name, None)
            return None
        self._keyed = True
        if is_new:
            self._attempts.give_back(address)
        return key if key.is_valid(int(time.time())) else None

    async def of_session(self, key_id: str) -> Key | None:
        """The key that a session was begun with, while it is valid. Raises Refused."""
        key = await self._ask(f"id {key_id}", partial(_valid, key_id))
        return key if key is not None and key.is_valid(int(time.time())) else None

    async def _ask(self, name: str, read: Callable[[Transaction], T]) -> T:
        """What the store says, or said a moment ago. Raises Refused."""
        known = self._known.get(name)
        age = math.inf if known is None else time.monotonic() - known[0]
        if known is not None and age < MOST_AGE:
            if age > MOST_AGE / 2:
                # In good time: a key in use is asked about without anybody waiting for it.
                self._begin(name, read)
            answer: T = known[1]
            return answer
        if known is None and name not in self._asked and len(self._asked) >= MOST_ASKED:
            raise too_many(1, "Too many keys are being checked.", "Send the request again.")
        try:
            async with asyncio.timeout(PATIENCE):
                # Others wait for the same answer: whoever goes away must not take it from them.
                return await asyncio.shield(self._begin(name, read))
        except (PredictiveScoringError, TimeoutError) as refused:
            raise Refused(
                "KeysUnreadable",
                "The store did not answer, and nobody is let in unchecked.",
                remedy="Send the same request again; /readyz and the service's log tell more.",
                error=refused.name if isinstance(refused, PredictiveScoringError) else "StoreUnavailable",
                headers={"retry-after": "2"},
            ) from refused

    def _begin(self, name: str, read: Callable[[Transaction], T]) -> asyncio.Task[T]:
        task = self._asked.get(name)
        if task is None:
            task = self._asked[name] = asyncio.create_task(self._read(name, read))
            task.add_done_callback(partial(self._ended, name))
        return task

    def _ended(self, name: str, task: asyncio.Task[Any]) -> None:
        del self._asked[name]
        # Asked for in advance, nobody may be waiting for the error; the next request meets it again.
        if not task.cancelled():
            task.exception()

    async def _read(self, name: str, read: Callable[[Transaction], T]) -> T:
        # The answer is as old as its question.
        began = time.monotonic()
        answer = await anyio.to_thread.run_sync(lambda: self._store().read(read), limiter=self._threads)
        # Taken out and put in again: a dict's first name is then the one asked for least recently.
        self._known.pop(name, None)
        self._known[name] = (began, answer)
        if len(self._known) > MOST_KEYS:
            del self._known[next(iter(self._known))]
        return answer


def _was_keyed(tx: Transaction) -> bool:
    from predictive_scoring.keeping.store.keys import was_keyed

    return was_keyed(tx)


def _checked(text: str, tx: Transaction) -> Key | None:
    from predictive_scoring.keeping.store.keys import check_key

    return check_key(tx, text, int(time.time()))


def _valid(key_id: str, tx: Transaction) -> Key | None:
    from predictive_scoring.keeping.store.keys import valid_key

    return valid_key(tx, key_id, int(time.time()))
