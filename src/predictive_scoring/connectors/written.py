"""What a CRM was last told of each lead, so that only changes are written.

A protocol, because a store can keep it too; here a file of JSON lines to which each acknowledged batch is appended. A
run that is killed between the CRM's answer and the line writes that batch once more, which changes nothing in the CRM.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from predictive_scoring.data.sinks import whole_file
from predictive_scoring.data.sources import reason_of
from predictive_scoring.errors import UnreadableFile


class WrittenScores(Protocol):
    """The mark of what was last written, by lead."""

    def last(self, lead_id: str) -> str | None:
        """The mark, None where nothing was written."""

    def remember(self, marks: Mapping[str, str]) -> None:
        """Keep marks by lead, safely, before this returns."""


class WrittenFile:
    """`WrittenScores` in the JSON lines file `path`, read when it is opened. Raises UnreadableFile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._marks: dict[str, str] = {}
        text = self._read()
        lines = text.splitlines()
        for line in lines:
            self._marks |= _marks_of(line)
        # A line that broke off would swallow the next one.
        if len(lines) > 1000 or (text and not text.endswith("\n")):
            self._rewrite()

    def last(self, lead_id: str) -> str | None:
        """The mark of a lead."""
        return self._marks.get(lead_id)

    def remember(self, marks: Mapping[str, str]) -> None:
        """Append the marks as one line. Raises UnreadableFile when the disk refuses."""
        if not marks:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(dict(marks)) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as refused:
            raise _unreadable(self._path, refused) from refused
        self._marks |= marks

    def forget(self, lead_ids: Iterable[str]) -> int:
        """Forget the marks of these leads, on the disk too; how many. Raises UnreadableFile."""
        gone = [self._marks.pop(one) for one in lead_ids if one in self._marks]
        if gone:
            self._rewrite()
        return len(gone)

    def _read(self) -> str:
        if not self._path.exists():
            return ""
        try:
            return self._path.read_text("utf-8", errors="replace")
        except OSError as refused:
            raise _unreadable(self._path, refused) from refused

    def _rewrite(self) -> None:
        """One line instead of many, and none that broke off."""
        with whole_file(self._path) as draft, draft.open("w", encoding="utf-8") as stream:
            stream.write(json.dumps(self._marks) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def _marks_of(line: str) -> dict[str, str]:
    """The marks of a line; none of one that broke off when the machine stopped."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return {str(lead): str(mark) for lead, mark in found.items()} if isinstance(found, dict) else {}


def _unreadable(path: Path, refused: OSError) -> UnreadableFile:
    return UnreadableFile(
        what=f"cannot keep what was written to the CRM: {reason_of(refused)}",
        where=str(path),
        remedy="Free or unlock the disk.",
    )
