"""An earlier file of scores read back: on which side of the line each lead was."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from predictive_scoring.data.sources import reason_of
from predictive_scoring.errors import (
    DuplicateKey,
    InvalidSetting,
    InvalidValue,
    MissingColumn,
    UnreadableFile,
)
from predictive_scoring.timeline import parse_instant

Readiness = Literal["ready", "nurture"]
_READ = ("lead_id", "as_of", "readiness")
_SIDES = frozenset(("ready", "nurture"))


@dataclass(frozen=True)
class EarlierScores:
    """Readiness by lead id, and the newest instant (epoch seconds) the scores speak of; None for an empty file."""

    readiness: Mapping[str, Readiness]
    as_of: int | None


def read_earlier_scores(path: Path) -> EarlierScores:
    """Read what `sinks.write_scores` or a Spark job wrote: `.jsonl`, `.csv`, `.parquet` (one file or a folder).

    Leads without a score have no side and are left out. Raises InvalidSetting for another ending, UnreadableFile,
    MissingColumn, InvalidValue for a readiness that is none, and DuplicateKey for a lead that stands there twice."""
    readers = {".jsonl": _from_lines, ".csv": _from_csv, ".parquet": _from_parquet}
    if path.suffix not in readers:
        raise InvalidSetting(
            what=f"earlier scores are not read from {path.suffix or 'a file without ending'!r}",
            where=str(path),
            remedy="Name a .jsonl, .csv or .parquet that `score --out` wrote.",
        )
    try:
        return _collected(readers[path.suffix](path), path)
    except (OSError, UnicodeDecodeError, ValueError) as refused:
        reason = reason_of(refused) if isinstance(refused, OSError) else str(refused)
        raise UnreadableFile(
            what=f"cannot read the earlier scores: {reason}",
            where=str(path),
            remedy="Name a file that `score --out` wrote.",
        ) from refused


def _collected(rows: Iterable[tuple[Any, Any, Any]], path: Path) -> EarlierScores:
    sides: dict[str, Readiness] = {}
    seen: set[str] = set()
    instants: set[str] = set()
    for lead, as_of, side in rows:
        if lead in seen:
            raise DuplicateKey(
                what=f"lead {lead!r} stands there twice",
                where=str(path),
                remedy="Give the scores of one instant only.",
            )
        seen.add(lead)
        instants.add(as_of)
        if side in _SIDES:
            sides[lead] = side
        elif side:
            raise InvalidValue(
                what=f"{side!r} is no readiness",
                where=f"{path}, lead {lead!r}",
                remedy="A readiness is `ready`, `nurture` or empty.",
            )
    return EarlierScores(
        sides, max((parse_instant(text, where=str(path)) for text in instants), default=None)
    )


def _from_lines(path: Path) -> Iterator[tuple[Any, Any, Any]]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            if line.strip():
                document = json.loads(line)
                _refuse_missing(document if isinstance(document, dict) else (), path)
                yield document["lead_id"], document["as_of"], document["readiness"]


def _from_csv(path: Path) -> Iterator[tuple[Any, Any, Any]]:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    _refuse_missing(frame.columns, path)
    for lead, as_of, side in frame[list(_READ)].itertuples(index=False, name=None):
        # What `sinks` quoted so that a spreadsheet does not run it.
        yield (lead[1:] if lead[:1] == "'" and lead[1:2] in {*"=+-@\t\r"} else lead), as_of, side


def _from_parquet(path: Path) -> Iterator[tuple[Any, Any, Any]]:
    import pyarrow.dataset as ds

    table = ds.dataset(path, format="parquet")
    _refuse_missing(table.schema.names, path)
    for batch in table.to_batches(columns=list(_READ)):
        yield from zip(*(batch.column(name).to_pylist() for name in _READ), strict=True)


def _refuse_missing(names: Iterable[str], path: Path) -> None:
    missing = [name for name in _READ if name not in set(names)]
    if missing:
        raise MissingColumn(
            what=f"there is no {', '.join(missing)}",
            where=str(path),
            remedy="Name a file that `score --out` wrote.",
        )
