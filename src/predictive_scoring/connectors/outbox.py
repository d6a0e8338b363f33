"""Webhooks that wait to be sent. A protocol, because a store can keep them too; here in memory and in a file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from predictive_scoring.data.sinks import whole_file
from predictive_scoring.data.sources import reason_of
from predictive_scoring.errors import UnreadableFile


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

    def dead(self) -> Sequence[Waiting]:
        """Messages that were given up."""


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
        """See `Outbox`."""
        return sorted((one for one in self._waiting.values() if one.dead), key=lambda one: one.name)

    def revive(self, now: int) -> int:
        """Try the dead ones again from the start; how many."""
        gone = self.dead()
        for one in gone:
            self.put(replace(one, dead="", attempts=0, due=now))
        return len(gone)


class FileOutbox(MemoryOutbox):
    """An `Outbox` in a journal of JSON lines, read when it is opened. One process at a time. Raises UnreadableFile."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        try:
            lines = path.read_text("utf-8", errors="replace").splitlines() if path.exists() else []
        except OSError as refused:
            raise _unreadable(path, refused) from refused
        for line in lines:
            self._replay(_entry(line))
        if lines:
            with whole_file(path) as draft, draft.open("w", encoding="utf-8") as stream:
                stream.writelines(_line({"put": asdict(one)}) for one in self._waiting.values())
                stream.flush()
                os.fsync(stream.fileno())

    def put(self, waiting: Waiting) -> None:
        """See `Outbox`."""
        self._append({"put": asdict(waiting)})
        super().put(waiting)

    def remove(self, waiting: Waiting) -> None:
        """See `Outbox`."""
        self._append({"remove": list(waiting.name)})
        super().remove(waiting)

    def _replay(self, entry: Mapping[str, Any]) -> None:
        if isinstance(entry.get("put"), dict):
            super().put(Waiting(**entry["put"]))
        elif isinstance(entry.get("remove"), list):
            self._waiting.pop(tuple(entry["remove"]), None)

    def _append(self, entry: Mapping[str, Any]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(_line(entry))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as refused:
            raise _unreadable(self._path, refused) from refused


def _unreadable(path: Path, refused: OSError) -> UnreadableFile:
    return UnreadableFile(
        what=f"cannot keep webhooks that wait: {reason_of(refused)}",
        where=str(path),
        remedy="Free or unlock the disk.",
    )


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False) + "\n"


def _entry(line: str) -> dict[str, Any]:
    """A line of the journal; nothing for one that broke off when the machine stopped."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
