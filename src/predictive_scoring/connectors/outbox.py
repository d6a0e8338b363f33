"""Webhooks that wait to be sent. A protocol, because the store keeps them (`live.delivery`); here in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Waiting:
    """One message for one endpoint. Times are epoch seconds; `attempts` were made and failed; `dead` says why there
    will be no further one."""

    message_id: str
    endpoint: str
    body: str = field(repr=False)
    due: int
    attempts: int = 0
    last: str = ""
    dead: str = ""

    @property
    def name(self) -> tuple[str, str]:
        """A message is sent to each endpoint once."""
        return self.message_id, self.endpoint


class Outbox(Protocol):
    """What waits. Every call is safe on the disk, or wherever it is kept, before it returns."""

    def put(self, waiting: Waiting) -> None:
        """Keep a message, or its new state."""

    def remove(self, waiting: Waiting) -> None:
        """It was delivered."""

    def due(self, now: int, most: int) -> Sequence[Waiting]:
        """Messages to be tried now, the longest due first; none that is dead."""


class MemoryOutbox:
    """An `Outbox` that ends with the process."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], Waiting] = {}

    def put(self, waiting: Waiting) -> None:
        """See `Outbox`."""
        self._waiting[waiting.name] = waiting

    def remove(self, waiting: Waiting) -> None:
        """See `Outbox`."""
        self._waiting.pop(waiting.name, None)

    def due(self, now: int, most: int) -> Sequence[Waiting]:
        """See `Outbox`."""
        found = [one for one in self._waiting.values() if not one.dead and one.due <= now]
        return sorted(found, key=lambda one: (one.due, one.name))[:most]

    def dead(self) -> Sequence[Waiting]:
        """Messages that were given up."""
        return sorted((one for one in self._waiting.values() if one.dead), key=lambda one: one.name)
