"""Served feature vectors, kept for `replay`: a sample of them, appended as JSON lines, one file a day.

    <models>/<project>/served/2026-11-01.jsonl    what was served on that day (UTC)

Several processes may append at once. A line is written whole by one call or, when the disk fills up or the
power fails, torn; a torn line never spoils the next one, and reading steps over it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from predictive_scoring.errors import UnreadableFile
from predictive_scoring.schema import Score
from predictive_scoring.timeline import parse_instant, to_datetime

FOLDER = "served"
SHARE = 0.01
"""The share of served vectors that a service keeps unless told otherwise."""
KEPT_DAYS = 30
"""A day's file is removed when the first vector of the 30th day after it is kept."""
DAY_BYTES = 64 * 2**20
"""A day's file grows no larger: some 30,000 vectors of 50 features."""

Value = float | str | None
Source = Literal["stored", "body"]
"""The lead's history was read from the tables, or came with the request."""


@dataclass(frozen=True)
class ServedVector:
    """The feature values that one score was made of; nothing else is kept about the lead.

    `as_of` and `served_at` are epoch seconds; `bundle` is the identity of the model's bundle, which fixes the
    definition of every feature; `values` holds the model's features by name, None where missing."""

    lead_id: str
    as_of: int
    served_at: int
    source: Source
    bundle: str
    values: Mapping[str, Value]


@dataclass(frozen=True)
class TornLine:
    """A line that holds no vector: the file's name and the line's number, from 1."""

    file: str
    number: int


@dataclass(frozen=True)
class Kept:
    """What became of a sample: vectors kept, left out because the day's file is full, and lost because the
    disk refused, for `reason`."""

    kept: int = 0
    full: int = 0
    lost: int = 0
    reason: str = ""


def is_sampled(lead_id: str, as_of: int, share: float, salt: str) -> bool:
    """Whether a vector belongs to the sample; the same answer in every process and on every day."""
    text = f"{salt}\n{as_of}\n{lead_id}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def sample(
    scores: Sequence[Score],
    values: Sequence[Mapping[str, Value]],
    *,
    share: float,
    source: Source,
    served_at: int,
) -> list[ServedVector]:
    """The sampled vectors of scored leads; `values` are their features by name, one by one.

    The bundle is the salt, so that each model has a sample of its own. Leads without a score (opted out,
    converted) leave no vector."""
    return [
        ServedVector(score.lead_id, as_of, served_at, source, score.model.bundle, row)
        for score, row in zip(scores, values, strict=True)
        if score.status == "scored"
        and is_sampled(score.lead_id, as_of := parse_instant(score.as_of), share, score.model.bundle)
    ]


@dataclass(frozen=True)
class VectorLog:
    """The kept vectors of one project. Opened anew for every append: a file may go with its day."""

    folder: Path
    day_bytes: int = DAY_BYTES
    kept_days: int = KEPT_DAYS

    def append(self, vectors: Iterable[ServedVector]) -> Kept:
        """Keep the vectors, each under the day it was served on. Never raises for the disk: what could not
        be kept is in the answer."""
        lines = [(_day(vector.served_at), _line(vector)) for vector in vectors]
        kept = full = 0
        try:
            for day, several in groupby(lines, key=lambda line: line[0]):
                for fitted in self._write(day, (line for _, line in several)):
                    kept += fitted
                    full += not fitted
        except OSError as refused:
            return Kept(kept, full, len(lines) - kept - full, refused.strerror or str(refused))
        return Kept(kept, full)

    def _write(self, day: str, lines: Iterable[bytes]) -> Iterator[bool]:
        """Whether each line found room. Raises OSError."""
        # The folder is personal data: readable to the service's own group, and to nobody else.
        self.folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        file = os.open(self.folder / f"{day}.jsonl", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            size = os.fstat(file).st_size
            if size == 0:
                self._remove_before(date.fromisoformat(day) - timedelta(days=self.kept_days - 1))
            elif os.pread(file, 1, size - 1) != b"\n":
                # The last line is torn. Should it be another process's, still under way, an empty line more
                # is no harm.
                size += os.write(file, b"\n")
            for line in lines:
                if size + len(line) > self.day_bytes:
                    yield False
                    continue
                # One call for the whole line: lines of other processes come before or after it.
                if os.write(file, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                size += len(line)
                yield True
        finally:
            os.close(file)

    def _remove_before(self, first: date) -> None:
        for file in self.files(until=(first - timedelta(days=1)).isoformat()):
            file.unlink(missing_ok=True)

    def files(self, since: str | None = None, until: str | None = None) -> list[Path]:
        """The files of the days `since` to `until` (`2026-11-01`, both included), oldest first."""
        if not self.folder.is_dir():
            return []
        days = {
            file.stem: file
            for file in self.folder.iterdir()
            if re.fullmatch(r"\d{4}-\d\d-\d\d\.jsonl", file.name)
        }
        return [
            days[day]
            for day in sorted(days)
            if (since is None or day >= since) and (until is None or day <= until)
        ]

    def count(self, since: str | None = None, until: str | None = None) -> int:
        """How many lines `read` will yield."""
        return sum(1 for _ in self._lines(since, until))

    def read(self, since: str | None = None, until: str | None = None) -> Iterator[ServedVector | TornLine]:
        """The vectors of the days `since` to `until`, in the order they were kept. Raises UnreadableFile."""
        form = _form()
        for file, number, line in self._lines(since, until):
            try:
                yield form.validate_json(line)
            except ValidationError:
                yield TornLine(file, number)

    def _lines(self, since: str | None, until: str | None) -> Iterator[tuple[str, int, bytes]]:
        place = self.folder
        try:
            for place in self.files(since, until):
                try:
                    with place.open("rb") as stream:
                        for number, line in enumerate(stream, start=1):
                            if line.strip():
                                yield place.name, number, line
                except FileNotFoundError:
                    # Its day was over.
                    continue
        except OSError as refused:
            raise UnreadableFile(
                what=f"cannot read the kept vectors: {refused.strerror}",
                where=str(place),
                remedy="Run as a user who may read the service's files.",
            ) from refused


@cache
def _form() -> TypeAdapter[ServedVector]:
    return TypeAdapter(ServedVector)


def _day(instant: int) -> str:
    return to_datetime(instant).date().isoformat()


def _line(vector: ServedVector) -> bytes:
    # Escaped to ASCII: no value can hold a line break, and no text is too odd to be written.
    return json.dumps({**vars(vector), "values": dict(vector.values)}, separators=(",", ":")).encode() + b"\n"
