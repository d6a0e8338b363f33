"""The service's door on its own: the whole application over a real store, with no model behind it.

Whatever is let in is answered 503 or better by the application, so a test sees who was let in and who was not.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
from serving.admission import AdmissionSettings
from serving.app import create_app
from serving.limits import LimitSettings
from serving.state import ServingState

from predictive_scoring.keeping.store.connection import Store
from predictive_scoring.keeping.store.keys import create_key, revoke_key

BASE = "http://127.0.0.1:3000"


class Door:
    """Requests to an application whose store is open and which loads nothing. Its event loop is its own."""

    def __init__(
        self,
        store: Store,
        settings: AdmissionSettings | None = None,
        limits: LimitSettings | None = None,
        *,
        base: str = BASE,
    ) -> None:
        self.store = store
        self.state = ServingState(None, Path("nowhere"))
        self.state.store = store
        self.app = create_app(self.state, limits, settings)
        self.base = base
        self._runner = asyncio.Runner()

    def ask(
        self, method: str, path: str, key: str | None = None, *, address: str = "127.0.0.1", **options: Any
    ) -> httpx.Response:
        """The answer; redirects are not followed and cookies not kept."""
        headers = dict(options.pop("headers", {}))
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=(address, 50_000))

        async def once() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url=self.base) as client:
                return await client.request(method, path, headers=headers, **options)

        return self._runner.run(once())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run something in the application's event loop."""
        return self._runner.run(work)

    def close(self) -> None:
        self._runner.close()


@contextlib.contextmanager
def opened(*arguments: Any, **options: Any) -> Iterator[Door]:
    """A door that is closed at the end."""
    door = Door(*arguments, **options)
    try:
        yield door
    finally:
        door.close()


def make_key(store: Store, scopes: Iterable[str], *, lasts: int | None = None, name: str = "a test") -> str:
    """The text of a new key, valid for `lasts` seconds."""
    now = int(time.time())
    expires = None if lasts is None else now + lasts
    _, text = store.write(lambda tx: create_key(tx, name, scopes, now=now, expires=expires))
    return text


def revoke(store: Store, text: str) -> None:
    store.write(lambda tx: revoke_key(tx, text.split("_")[1], now=int(time.time())))
