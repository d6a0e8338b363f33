"""What a user's table looks like, before any project file says what it means: columns, kinds, levels."""

# ruff: noqa: S608  SQL over the user's own files, every name through canonical.quoted

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

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
    """A CSV or Parquet file, or the answer of a query over such files, and the profile of its columns in order.

    `missing` are the texts found that usually mean "no value" (CSV only); `separator` is None for a comma. `table` is
    its name in a database, for a profile of one."""

    table: str | None = None
    relation = "rows"
    """What a query over it reads from."""

    def __init__(self, path: Path) -> None:
        """Read the file at `path` once or twice. Raises UnreadableFile."""
        refuse_unreadable(path)
        self._open(path)
        with _refusing(path):
            self.rows, self.columns = self._read_file()

    @classmethod
    def of_query(cls, sql: str, tables: Mapping[str, Path], path: Path) -> Self:
        """The answer of `sql` over the files in `tables` (name in the query -> file), read as a `sql` source reads
        them. `path` names the answer in messages. Raises UnreadableFile."""
        profile = cls.__new__(cls)
        profile._open(path)
        with _refusing(path):
            _name_files(profile._connection, tables)
            profile._connection.execute(f"CREATE TABLE raw AS {sql}")
            profile.rows, profile.columns = profile._profiled(profile._names("raw"), {})
        return profile

    @property
    def stem(self) -> str:
        return self.path.stem

    @property
    def name(self) -> str:
        """What messages call the table."""
        return self.path.name

    def answer(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query over `cells`: this table with every cell as text, NULL where there is no value."""
        return self._rows(query)

    def by_level(self, key: str, value: str) -> dict[str, ColumnProfile]:
        """Profiles of the texts in `value` by the text in `key`, as if each level of `key` were a column: the shape of
        a table that holds one row per changed attribute."""
        rows = self._rows(
            f"SELECT {quoted(key)}, {_measures(quoted(value))} FROM cells WHERE {quoted(key)} IS NOT NULL "
            "GROUP BY 1 ORDER BY count(*) DESC, 1"
        )
        return {str(row[0]): _column(str(row[0]), row[1:], "", None) for row in rows}

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

    def _open(self, path: Path) -> None:
        self.path = path
        self.separator: str | None = None
        self.missing: tuple[str, ...] = ()
        self._typed = "raw"
        self._connection = quiet_connection()

    def _read_file(self) -> tuple[int, dict[str, ColumnProfile]]:
        is_text, kinds, delimiter = is_text_file(self.path), {}, ""
        if is_text:
            file = literal(str(self.path.resolve()))
            found = self._connection.execute(f"SELECT Delimiter FROM sniff_csv({file})").fetchone()
            self.separator = None if found is None or found[0] == "," else str(found[0])
            delimiter = f", delim={literal(self.separator)}" if self.separator else ""
            self._typed = _scan(self.path, _TYPED + delimiter)
            kinds = {str(row[0]): str(row[1]) for row in self._rows(f"DESCRIBE SELECT * FROM {self._typed}")}
        self._connection.execute(
            f"CREATE VIEW raw AS SELECT * FROM {_scan(self.path, 'all_varchar=true' + delimiter)}"
        )
        names = self._names("raw")
        if is_text:
            self.missing = self._missing_texts(names)
        return self._profiled(names, kinds)

    def _names(self, relation: str) -> list[str]:
        return [str(row[0]) for row in self._rows(f"DESCRIBE SELECT * FROM {relation}")]

    def _profiled(self, names: list[str], kinds: Mapping[str, str]) -> tuple[int, dict[str, ColumnProfile]]:
        """The number of rows and the columns of `raw`; `kinds` are the types of the columns in a typed reading."""
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
            span = None
            if kinds.get(name, "").startswith(("DATE", "TIMESTAMP")):
                span = self._rows(
                    f"SELECT epoch(min({quoted(name)})), epoch(max({quoted(name)})) FROM {self._typed}"
                )[0]
            columns[name] = _column(name, answer[1 + 9 * at : 10 + 9 * at], kinds.get(name, ""), span)
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


def _column(name: str, measured: tuple[Any, ...], kind: str, span: tuple[Any, ...] | None) -> ColumnProfile:
    """A profile from the nine aggregates; `span` is the range of times that only a typed reading (`kind`) sees."""
    filled, distinct, numbers, integers, flags, instants, naive, oldest, newest = measured
    number, instant = 0 < filled == numbers, 0 < filled == instants and numbers == 0
    local = filled > 0 and not number and not instant and kind.startswith(("DATE", "TIMESTAMP"))
    if local and span is not None:
        oldest, newest = span
    known = (instant or local) and oldest is not None and newest is not None
    return ColumnProfile(
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


def quiet_connection() -> duckdb.DuckDBPyConnection:
    """A database in memory whose times without an offset are UTC."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    # A notebook without ipywidgets cannot set it, and shows none anyway.
    with contextlib.suppress(duckdb.InvalidInputException):
        connection.execute("SET enable_progress_bar = false")
    return connection


def query_files(sql: str, tables: Mapping[str, Path]) -> list[tuple[Any, ...]]:
    """Rows of a query over files, read as a `sql` source reads them. Raises UnreadableFile."""
    connection = quiet_connection()
    with _refusing(next(iter(tables.values()))):
        _name_files(connection, tables)
        return connection.execute(sql).fetchall()


def _name_files(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, Path]) -> None:
    for name, file in tables.items():
        refuse_unreadable(file)
        connection.execute(f"CREATE VIEW {quoted(name)} AS SELECT * FROM {_scan(file, _TYPED)}")


def is_text_file(path: Path) -> bool:
    """A CSV file by its name."""
    return path.suffix in (".csv", ".tsv", ".txt")


def refuse_unreadable(path: Path) -> None:
    """Raises UnreadableFile unless `path` is a file with the ending of a CSV or Parquet file."""
    if not path.is_file():
        raise UnreadableFile(what="the file does not exist", where=str(path), remedy="Correct the path.")
    if not is_text_file(path) and path.suffix != ".parquet":
        raise UnreadableFile(
            what=f"files ending in {path.suffix!r} are not read",
            where=str(path),
            remedy="Export it as .csv or .parquet.",
        )


def column_names(path: Path) -> tuple[str, ...]:
    """The columns of a file, without reading its rows. Raises UnreadableFile."""
    refuse_unreadable(path)
    with _refusing(path):
        rows = (
            quiet_connection().execute(f"DESCRIBE SELECT * FROM {_scan(path, 'all_varchar=true')}").fetchall()
        )
    return tuple(str(row[0]) for row in rows)


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as refused:
        raise UnreadableFile(
            what=f"cannot read the table: {str(refused).splitlines()[0]}",
            where=str(path),
            remedy="Check that the file is the CSV (UTF-8, with a header) or Parquet its name says.",
        ) from refused


def _scan(path: Path, options: str) -> str:
    file = literal(str(path.resolve()))
    return f"read_csv({file}, header=true, {options})" if is_text_file(path) else f"read_parquet({file})"


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
