"""Files into DuckDB: every cell is read, checked and made canonical here, whichever engine computes afterwards."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import duckdb

from predictive_scoring.data.canonical import (
    CanonicalColumn,
    canonical_select,
    first_row,
    literal,
    quoted,
)
from predictive_scoring.errors import (
    DuplicateKey,
    InvalidSetting,
    InvalidValue,
    MissingColumn,
    UnreadableFile,
)
from predictive_scoring.settings import TableSource

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

QUERY_TYPES = ("BIGINT", "DOUBLE", "DATE", "TIMESTAMP", "TIMESTAMPTZ", "VARCHAR")
"""Types that columns of CSV files may take in a query. No BOOLEAN: yes and no would become true and false."""


def read_files(
    reader: Backend, raw: str, source: TableSource, locate: Callable[[str], str], where: str
) -> None:
    """Create the table `raw` from the file or query, with a 1-based `row_number` in file order.

    Raises UnreadableFile and InvalidSetting."""
    if source.in_warehouse:
        raise InvalidSetting(
            what="the table is in a database, which this engine does not read",
            where=f"{where}: {source.table or 'sql'}",
            remedy="Run with --engine postgres and its --dsn, or name the files that `sql` reads under `tables`.",
        )
    try:
        for name, path in source.tables.items():
            reader.raw_sql(
                f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS SELECT * FROM {_scan(locate(path), source)}"
            )
        query = (
            str(source.sql).strip().rstrip(";")
            if source.path is None
            else f"SELECT * FROM {_scan(locate(source.path), source)}"
        )
        # First, so that a `row_number` of the user's own is the one that DuckDB renames.
        reader.raw_sql(
            f"CREATE OR REPLACE TABLE {quoted(raw)} AS SELECT row_number() OVER () AS row_number, * FROM ({query}\n)"
        )
    except duckdb.Error as refused:
        raise UnreadableFile(
            what=f"cannot read the table: {str(refused).splitlines()[0]}",
            where=f"{where}: {source.path or 'sql'}",
            remedy="Check that the file is the CSV or Parquet its name says, and the query's table names.",
        ) from refused
    finally:
        for name in source.tables:
            reader.raw_sql(f"DROP VIEW IF EXISTS temp.{quoted(name)}")


def canonicalise(
    reader: Backend,
    raw: str,
    table: str,
    columns: tuple[CanonicalColumn, ...],
    time_zone: str | None,
    where: str,
) -> None:
    """Turn the table `raw` into `table` with canonical columns (and `row_number`).

    Raises MissingColumn, InvalidSetting, InvalidValue and NaiveTimestamp."""
    described = {
        str(name): str(kind) for name, kind, *_ in reader.raw_sql(f"DESCRIBE {quoted(raw)}").fetchall()
    }
    zones = reader.raw_sql("SELECT name FROM pg_timezone_names()").fetchall()
    if time_zone is not None and (time_zone,) not in zones:
        refuse_zone(time_zone, where)
    refuse_missing(columns, described, where)
    select = canonical_select(reader, raw, described, columns, where, time_zone)
    reader.raw_sql(
        f"CREATE OR REPLACE TABLE {quoted(table)} AS SELECT {select}, row_number FROM {quoted(raw)}"
    )
    reader.raw_sql(f"DROP TABLE {quoted(raw)}")


def refuse_zone(time_zone: str, where: str) -> NoReturn:
    """Raises InvalidSetting for a zone that the engine does not know."""
    raise InvalidSetting(
        what=f"{time_zone!r} is not a time zone",
        where=f"{where}.time_zone",
        remedy="Write the name of an IANA zone, for example Europe/Berlin or UTC.",
    )


def refuse_missing(columns: tuple[CanonicalColumn, ...], found: Collection[str], where: str) -> None:
    """Raises MissingColumn with the columns that there are."""
    for column in columns:
        if column.name not in found and column.optional is None:
            raise MissingColumn(
                what=f"there is no column {column.name!r}",
                where=where,
                remedy=f"Columns found: {', '.join(name for name in found if name != 'row_number')}. "
                "Correct the project file or the table.",
            )


def refuse_duplicates(reader: Backend, table: str, key: str, where: str) -> None:
    """Raises DuplicateKey when two rows share the key."""
    found = first_row(
        reader,
        f"SELECT {quoted(key)}, count(*) FROM {quoted(table)} WHERE {quoted(key)} IS NOT NULL "
        "GROUP BY 1 HAVING count(*) > 1 ORDER BY 2 DESC, 1 LIMIT 1",
    )
    if found:
        raise duplicate(key, found[0], found[1], where)


def duplicate(key: str, value: object, rows: int, where: str) -> DuplicateKey:
    """The refusal of a key that several rows share."""
    return DuplicateKey(
        what=f"{key} {value!r} stands in {rows} rows",
        where=f"{where}, column {key}",
        remedy="Keep one row per key.",
    )


def refuse_empty(reader: Backend, table: str, key: str, where: str) -> None:
    """Raises InvalidValue with the first row whose key is empty."""
    found = first_row(
        reader,
        f"SELECT count(*), min(row_number) FROM {quoted(table)} WHERE {quoted(key)} IS NULL",
    )
    if found and found[0]:
        raise InvalidValue(
            what=f"{found[0]} rows have no {key}",
            where=f"{where}, column {key}, row {found[1]}",
            remedy="Fill it in, or leave these rows out with a `sql` source.",
        )


def _scan(path: str, source: TableSource) -> str:
    if "://" in path:
        raise InvalidSetting(
            what="DuckDB reads files of this machine only",
            where=path,
            remedy="Run with --engine spark, which reads addresses, or copy the files.",
        )
    resolved = Path(path)
    if resolved.is_dir() or (not resolved.is_file() and any(sign in path for sign in "*?[")):
        pattern = resolved / "**" / "*.parquet" if resolved.is_dir() else resolved
        if pattern.suffix == ".parquet":
            return f"read_parquet({literal(str(pattern))})"
    elif not resolved.is_file():
        raise UnreadableFile(
            what="the file does not exist",
            where=str(resolved),
            remedy="Correct `path` or `data_root` in the project file, or make the file "
            "(for the sample project: predictive-scoring simulate).",
        )
    if resolved.suffix == ".parquet":
        return f"read_parquet({literal(str(resolved))})"
    if resolved.suffix in (".csv", ".tsv", ".txt") and resolved.is_file():
        missing = ", ".join(literal(text) for text in ("", *source.missing))
        separator = f", delim={literal(source.separator)}" if source.separator else ""
        # A plain file is read as text and cast by `canonical`, so that ids keep their zeros and "no" stays
        # "no". A query wants numbers and dates: the whole file decides them, never a sample.
        types = (
            "all_varchar=true"
            if source.path is not None
            else f"sample_size=-1, auto_type_candidates={list(QUERY_TYPES)}"
        )
        return f"read_csv({literal(str(resolved))}, header=true, {types}, nullstr=[{missing}]{separator})"
    raise UnreadableFile(
        what=f"files ending in {resolved.suffix!r} are not read",
        where=str(resolved),
        remedy="Export it as .csv or .parquet (several files only as .parquet).",
    )
