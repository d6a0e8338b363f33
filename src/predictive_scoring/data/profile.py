"""What a user's table looks like, before any project file says what it means: columns, kinds, levels."""

# ruff: noqa: S608  SQL over the user's own files, every name through canonical.quoted

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from predictive_scoring.data.canonical import quoted
from predictive_scoring.errors import UnreadableFile

MISSING_TEXTS = (
    "unknown", "Unknown", "UNKNOWN", "NA", "N/A", "n/a", "#N/A", "NULL", "null", "NaN", "nan", "?", "-", "(not set)",
    "\\N",
)  # fmt: skip
"""Texts that usually mean "no value". "None" and "other" are left out: both are honest levels often enough."""

_OFFSET = r"(Z|z|[+-]\d{2}(:?\d{2})?)\s*$"
_TYPED = (
    "sample_size=-1, auto_type_candidates=['BIGINT', 'DOUBLE', 'DATE', 'TIMESTAMP', 'TIMESTAMPTZ', 'VARCHAR']"
)


@dataclass(frozen=True)
class ColumnProfile:
    """One column: how many rows have a value, about how many different ones, and what all of them can be read as.

    `oldest` and `newest` are epoch seconds of instants, times without an offset taken as UTC (`naive`).
    `only_typed`: a time in a local spelling (31/12/2026), which a plain `path` source would refuse."""

    name: str
    filled: int
    distinct: int
    number: bool
    integer: bool
    flag: bool
    instant: bool
    naive: bool
    only_typed: bool
    oldest: int | None
    newest: int | None


class TableProfile:
    """A CSV or Parquet file and the profile of its columns, in file order.

    `missing` are the texts found that usually mean "no value" (CSV only); `separator` is None for a comma."""

    def __init__(self, path: Path) -> None:
        """Read the file at `path` once or twice. Raises UnreadableFile."""
        self.path = path
        self.is_text = path.suffix in (".csv", ".tsv", ".txt")
        self.separator: str | None = None
        self.missing: tuple[str, ...] = ()
        if not path.is_file():
            raise UnreadableFile(what="the file does not exist", where=str(path), remedy="Correct the path.")
        if not self.is_text and path.suffix != ".parquet":
            raise UnreadableFile(
                what=f"files ending in {path.suffix!r} are not read",
                where=str(path),
                remedy="Export it as .csv or .parquet.",
            )
        self._connection = duckdb.connect()
        try:
            self._connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
            self.rows, self.columns = self._read()
        except duckdb.Error as refused:
            raise UnreadableFile(
                what=f"cannot read the table: {str(refused).splitlines()[0]}",
                where=str(path),
                remedy="Check that the file is the CSV (UTF-8, with a header) or Parquet its name says.",
            ) from refused

    @property
    def stem(self) -> str:
        return self.path.stem

    def levels(self, column: str, limit: int = 200) -> dict[str, int]:
        """Values of a column as text with their numbers of rows, most frequent first."""
        name = quoted(column)
        rows = self._connection.execute(
            f"SELECT {name}, count(*) FROM cells WHERE {name} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {limit}"
        ).fetchall()
        return {str(value): int(number) for value, number in rows}

    def is_key(self, column: str) -> bool:
        """Every row has a value and no two rows share one."""
        name = quoted(column)
        row = self._connection.execute(f"SELECT count(DISTINCT {name}) FROM cells").fetchone()
        return row is not None and self.rows > 0 and int(row[0]) == self.rows

    def is_in_order(self, column: str) -> bool:
        """The rows stand in the order of this instant, oldest first."""
        moment = f"TRY_CAST({quoted(column)} AS TIMESTAMPTZ)"
        row = self._connection.execute(
            f"SELECT count(*) FROM (SELECT {moment} AS now, lag({moment}) OVER () AS before FROM cells) "
            "WHERE now < before"
        ).fetchone()
        return row is not None and int(row[0]) == 0

    def _read(self) -> tuple[int, dict[str, ColumnProfile]]:
        file = literal(str(self.path.resolve()))
        scan = f"read_parquet({file})"
        kinds: dict[str, str] = {}
        if self.is_text:
            found = self._connection.execute(f"SELECT Delimiter FROM sniff_csv({file})").fetchone()
            self.separator = None if found is None or found[0] == "," else str(found[0])
            delimiter = f", delim={literal(self.separator)}" if self.separator else ""
            scan = f"read_csv({file}, header=true, all_varchar=true{delimiter})"
            typed = f"read_csv({file}, header=true, {_TYPED}{delimiter})"
            kinds = {str(row[0]): str(row[1]) for row in self._rows(f"DESCRIBE SELECT * FROM {typed}")}
        names = [str(row[0]) for row in self._rows(f"DESCRIBE SELECT * FROM {scan}")]
        self._connection.execute(f"CREATE VIEW raw AS SELECT * FROM {scan}")
        if self.is_text:
            self.missing = self._missing_texts(names)
        absent = ", ".join(literal(text) for text in ("", *self.missing))
        cells = ", ".join(
            f"CASE WHEN CAST({quoted(name)} AS VARCHAR) NOT IN ({absent}) THEN CAST({quoted(name)} AS VARCHAR) END "
            f"AS {quoted(name)}"
            for name in names
        )
        self._connection.execute(f"CREATE VIEW cells AS SELECT {cells} FROM raw")
        measures = ", ".join(_measures(quoted(name)) for name in names)
        answer = self._rows(f"SELECT count(*), {measures} FROM cells")[0]
        columns = {}
        for at, name in enumerate(names):
            filled, distinct, numbers, integers, flags, instants, naive, oldest, newest = answer[
                1 + 9 * at : 10 + 9 * at
            ]
            number, instant = 0 < filled == numbers, 0 < filled == instants and numbers == 0
            local = (
                filled > 0
                and not number
                and not instant
                and kinds.get(name, "").startswith(("DATE", "TIMESTAMP"))
            )
            if local:
                query = f"SELECT epoch(min({quoted(name)})), epoch(max({quoted(name)})) FROM {typed}"
                oldest, newest = self._rows(query)[0]
            known = (instant or local) and oldest is not None and newest is not None
            columns[name] = ColumnProfile(
                name,
                int(filled),
                int(distinct),
                number,
                number and integers == filled,
                0 < filled == flags,
                instant or local,
                local or (instant and naive > 0),
                local,
                int(oldest) if known else None,
                int(newest) if known else None,
            )
        return int(answer[0]), columns

    def _missing_texts(self, names: list[str]) -> tuple[str, ...]:
        candidates = ", ".join(literal(text) for text in MISSING_TEXTS)
        parts = ", ".join(
            f"list(DISTINCT {quoted(name)}) FILTER ({quoted(name)} IN ({candidates}))" for name in names
        )
        found = {text for texts in self._rows(f"SELECT {parts} FROM raw")[0] for text in texts or ()}
        return tuple(text for text in MISSING_TEXTS if text in found)

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(query).fetchall()


def _measures(name: str) -> str:
    """Nine aggregates of one text column, in the order that `_read` unpacks them."""
    moment = f"TRY_CAST({name} AS TIMESTAMPTZ)"
    return (
        f"count({name}), approx_count_distinct({name}), count(TRY_CAST({name} AS DOUBLE)), "
        f"count(*) FILTER (regexp_full_match({name}, '[+-]?[0-9]+')), count(TRY_CAST({name} AS BOOLEAN)), "
        f"count({moment}), count(*) FILTER ({name} IS NOT NULL AND NOT regexp_matches({name}, {literal(_OFFSET)})), "
        f"epoch(min({moment})), epoch(max({moment}))"
    )


def literal(value: str) -> str:
    """A SQL text."""
    return "'" + value.replace("'", "''") + "'"
