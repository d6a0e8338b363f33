"""PostgreSQL as an engine: file sources are copied into temporary tables, tables of the database are read in place.

Nothing is written but temporary tables and views, which PostgreSQL drops when the session ends. All text is read
under the collation "C" (code points), because the database's own language decides otherwise which of two event
ids is the greater.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
from pyarrow import csv

from predictive_scoring.data.canonical import literal, quoted
from predictive_scoring.data.engines import Session
from predictive_scoring.errors import EnvironmentMissing, InvalidSetting, InvalidValue, UnreadableFile
from predictive_scoring.settings import TableSource

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.backends.duckdb import Backend as DuckdbBackend
    from ibis.backends.postgres import Backend as PostgresBackend

_NUMBERS = ("smallint", "integer", "bigint", "real", "double precision")


@dataclass(frozen=True)
class Postgres(Session):
    """One session of a PostgreSQL server (12 or newer); needs SELECT on the sources and TEMP on the database."""

    backend: PostgresBackend
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False, compare=False)

    name = "postgres"

    @contextlib.contextmanager
    def temporary(self, name: str, frame: pd.DataFrame) -> Iterator[ir.Table]:
        name = f"{name}_{next(self._numbers)}"
        arrow = pa.Table.from_pandas(frame, preserve_index=False)
        table = self._store(name, arrow.schema, arrow.to_batches())
        try:
            yield table
        finally:
            self.query(f"DROP TABLE pg_temp.{quoted(name)}")

    def adopt(self, reader: DuckdbBackend, table: str) -> ir.Table:
        batches = reader.con.sql(f"SELECT * FROM {quoted(table)}").to_arrow_reader(100_000)
        return self._store(f"{table}_{next(self._numbers)}", batches.schema, batches)

    def _store(self, name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> ir.Table:
        import psycopg

        columns = ", ".join(f"{quoted(column.name)} {_type(column.type)}" for column in schema)
        self.query(f"CREATE TEMP TABLE {quoted(name)} ({columns})")
        try:
            with (
                self.backend.con.cursor() as cursor,
                # Quoted cells are values, so that the empty text is not NULL.
                cursor.copy(f"COPY pg_temp.{quoted(name)} FROM STDIN (FORMAT csv)") as copy,
            ):
                for batch in batches:
                    copy.write(_lines(batch))
        except psycopg.errors.CharacterNotInRepertoire as refused:
            raise InvalidValue(
                what="a text holds the character NUL, which PostgreSQL cannot store",
                where=name,
                remedy="Remove the character, or use --engine duckdb.",
            ) from refused
        # Without statistics a join of a million rows is planned as if there were a thousand.
        self.query(f"ANALYZE pg_temp.{quoted(name)}")
        return self._table(name)

    def _table(self, name: str) -> ir.Table:
        # By its schema, because the database may have a table of the same name.
        [(schema,)] = self.query("SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()")
        return self.backend.table(name, database=schema)

    def close(self) -> None:
        self.backend.con.close()

    # -- Sources of the database (see `engines.InPlace`).

    def in_place(self, source: TableSource, path: str | None) -> Postgres | None:
        return self if path is None and source.in_warehouse else None

    def relation(self, name: str, source: TableSource, path: str | None) -> str:  # noqa: ARG002 - none has a path
        import psycopg

        name = quoted(f"{name}_{next(self._numbers)}")
        if source.table is not None:
            # A view fixes its columns; the parts of `schema.table` are names, not SQL.
            query = f"SELECT * FROM {'.'.join(quoted(part) for part in source.table.split('.'))}"
        else:
            query = str(source.sql).strip().rstrip(";")
        try:
            self.query(f"CREATE TEMP VIEW {name} AS {query}\n")
        except psycopg.Error as refused:
            raise UnreadableFile(
                what=f"PostgreSQL refuses: {str(refused).splitlines()[0]}",
                where=source.table or "sql",
                remedy="Check the name (schema.table), the query and the permission to SELECT.",
            ) from refused
        return f"pg_temp.{name}"

    def kinds(self, relation: str) -> dict[str, str]:
        rows = self.query(
            "SELECT attname, format_type(atttypid, NULL), typcategory FROM pg_attribute "
            "JOIN pg_type ON pg_type.oid = atttypid "
            f"WHERE attrelid = {literal(relation)}::regclass AND attnum > 0 ORDER BY attnum"
        )
        return {name: _kind(spelled, category) for name, spelled, category in rows}

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.backend.con.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def view(self, name: str, sql: str) -> ir.Table:
        name = f"{name}_{next(self._numbers)}"
        self.query(f"CREATE TEMP VIEW {quoted(name)} AS {sql}")
        return self._table(name)

    def fetch(self, relation: str, columns: Sequence[str], reader: DuckdbBackend, table: str) -> None:
        names = ", ".join(f"CAST({quoted(name)} AS text) AS {quoted(name)}" for name in columns)
        copied = io.BytesIO()
        with (
            self.backend.con.cursor() as cursor,
            cursor.copy(
                f"COPY (SELECT {names} FROM {relation}) TO STDOUT (FORMAT csv, FORCE_QUOTE *, NULL '')"
            ) as copy,
        ):
            for block in copy:
                copied.write(block)
        copied.seek(0)
        rows = (
            csv.read_csv(
                copied,
                csv.ReadOptions(column_names=list(columns)),
                csv.ParseOptions(newlines_in_values=True),
                csv.ConvertOptions(
                    column_types={name: pa.string() for name in columns},
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
            if copied.getbuffer().nbytes
            else pa.table({name: pa.array([], pa.string()) for name in columns})
        )
        reader.con.register("fetched", rows)
        reader.raw_sql(
            f"CREATE OR REPLACE TABLE {quoted(table)} AS SELECT row_number() OVER () AS row_number, * FROM fetched"
        )
        reader.con.unregister("fetched")

    def quoted(self, name: str) -> str:
        return quoted(name)

    def text(self, column: str) -> str:
        return f'CAST({column} AS text) COLLATE "C"'

    def number(self, column: str) -> str:
        return f"nullif(CAST({column} AS double precision), 'NaN')"

    def instant(self, column: str, kind: str, time_zone: str | None) -> str:
        moment = (
            column
            if kind == "instant"
            else f"(CAST({column} AS timestamp) AT TIME ZONE {literal(time_zone or 'UTC')})"
        )
        # An infinite time becomes NULL, which is refused as missing.
        return f"CASE WHEN isfinite({moment}) THEN CAST(floor(extract(epoch FROM {moment})) AS bigint) END"

    def is_time_zone(self, name: str) -> bool:
        return bool(self.query(f"SELECT 1 FROM pg_timezone_names WHERE name = {literal(name)}"))


def open_postgres(dsn: str | None) -> Postgres:
    """A session of the server that `dsn` names. Raises InvalidSetting and EnvironmentMissing."""
    if not dsn:
        raise InvalidSetting(
            what="the engine postgres needs to know where the server is",
            where="--dsn",
            remedy="Give --dsn postgresql://user@host/database, or set PREDICTIVE_SCORING_DSN.",
        )
    try:
        import psycopg
        from ibis.backends.postgres import Backend
    except ImportError as missing:
        raise EnvironmentMissing(
            what=f"the PostgreSQL driver is not installed: {missing}",
            where="--engine postgres",
            remedy="Install the extra: pip install 'predictive-scoring[postgres]'.",
        ) from missing
    try:
        connection = psycopg.connect(
            dsn,
            autocommit=True,
            connect_timeout=10,
            client_encoding="UTF8",
            application_name="predictive-scoring",
        )
    except psycopg.Error as refused:
        raise EnvironmentMissing(
            what=f"PostgreSQL cannot be reached: {str(refused).splitlines()[0]}",
            # Never the dsn itself: it may hold a password.
            where="--dsn",
            remedy="Check host, port, database, user and password, and that the server runs.",
        ) from refused
    backend = Backend.from_connection(connection)
    # Hundreds of aggregates in one query take longer to compile than to run.
    backend.raw_sql("SET jit = off").close()
    backend.raw_sql("SET work_mem = '64MB'").close()
    return Postgres(backend)


def _type(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "bigint"
    if pa.types.is_floating(kind):
        return "double precision"
    return 'text COLLATE "C"'


def _kind(spelled: str, category: str) -> str:
    exact = {
        "timestamp with time zone": "instant",
        "timestamp without time zone": "local",
        "date": "date",
        "boolean": "flag",
        "numeric": "number",
        **dict.fromkeys(_NUMBERS, "number"),
    }
    return exact.get(spelled) or ("text" if category in ("S", "E") or spelled == "uuid" else "other")


def _lines(batch: pa.RecordBatch) -> memoryview:
    written = io.BytesIO()
    csv.write_csv(batch, written, csv.WriteOptions(include_header=False, quoting_style="all_valid"))
    return written.getbuffer()
