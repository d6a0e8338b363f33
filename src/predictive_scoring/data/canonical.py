"""Raw columns to canonical ones, as SQL: text keys, epoch seconds, numbers, categories, flags.

Every cast is tried first and the first cell that fails is shown, with its row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from predictive_scoring.errors import InvalidValue, NaiveTimestamp

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

Kind = Literal["key", "instant", "number", "category", "flag"]

# A clock time and an offset, or a blank and the name of a zone. Without the clock time, the day of
# "2026-01-05" would pass for an offset of minus five hours.
_OFFSET = r"(:\d{2}(\.\d+)?\s*(Z|z|[+-]\d{2}(:?\d{2}){0,2})|\d\s+[A-Za-z][\w/+-]*)\s*$"


@dataclass(frozen=True)
class CanonicalColumn:
    """A column to read: its name in the source, its kind, its canonical name, and the SQL that stands in
    for it where the source has no such column (None: it is required)."""

    name: str
    kind: Kind
    renamed: str | None = None
    optional: str | None = None

    @property
    def canonical(self) -> str:
        return self.renamed or self.name


def quoted(name: str) -> str:
    """A SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def first_row(connection: Backend, query: str) -> tuple[Any, ...] | None:
    """The first row of a query's answer. All rows are fetched: DuckDB 2 refuses other work on a connection
    whose last answer was not read to its end."""
    rows = connection.raw_sql(query).fetchall()
    return rows[0] if rows else None


def literal(value: str) -> str:
    """A SQL text."""
    return "'" + value.replace("'", "''") + "'"


def canonical_select(
    connection: Backend,
    raw: str,
    described: dict[str, str],
    columns: tuple[CanonicalColumn, ...],
    where: str,
    time_zone: str | None,
) -> str:
    """The select list that turns table `raw` (types in `described`) into canonical columns.

    Raises InvalidValue and NaiveTimestamp with the first offending row."""
    parts = []
    for column in columns:
        if column.name not in described:
            stands_in = next(
                (
                    _expression(connection, raw, described[other.name], other, where, time_zone)
                    for other in columns
                    if other.canonical == column.optional and other.name in described
                ),
                column.optional,
            )
            parts.append(f"{stands_in} AS {quoted(column.canonical)}")
            continue
        expression = _expression(connection, raw, described[column.name], column, where, time_zone)
        if column.kind == "instant" and column.optional:
            fallback = next(other for other in columns if other.canonical == column.optional)
            stands_in = _expression(connection, raw, described[fallback.name], fallback, where, time_zone)
            expression = f"coalesce({expression}, {stands_in})"
        parts.append(f"{expression} AS {quoted(column.canonical)}")
    return ", ".join(parts)


def _expression(
    connection: Backend, raw: str, kind: str, column: CanonicalColumn, where: str, time_zone: str | None
) -> str:
    name = quoted(column.name)
    spot = f"{where}, column {column.name}"
    if column.kind == "instant":
        return _instant(connection, raw, kind, column, spot, time_zone)
    if column.kind == "number":
        _refuse_uncastable(connection, raw, name, "DOUBLE", spot, "a number")
        # NaN is how some writers say "missing"; the two readings of a feature must both see NULL.
        return f"nullif(TRY_CAST({name} AS DOUBLE), CAST('NaN' AS DOUBLE))"
    if column.kind == "flag":
        _refuse_uncastable(connection, raw, name, "BOOLEAN", spot, "true or false")
        return f"TRY_CAST({name} AS BOOLEAN)"
    return f"CAST({name} AS VARCHAR)"


def _refuse_uncastable(connection: Backend, raw: str, name: str, kind: str, spot: str, spoken: str) -> None:
    cast = f"TRY_CAST({name} AS {kind})"
    endless = "" if kind == "BOOLEAN" else f" OR isinf({cast})"
    found = first_row(
        connection,
        f"SELECT row_number, CAST({name} AS VARCHAR) FROM {quoted(raw)} "
        f"WHERE {name} IS NOT NULL AND ({cast} IS NULL{endless}) ORDER BY 1 LIMIT 1",
    )
    if found:
        raise InvalidValue(
            what=f"{found[1]!r} is not {spoken}",
            where=f"{spot}, row {found[0]}",
            remedy="Correct the cell, list the text under `missing`, or declare the column's true type.",
        )


def _instant(
    connection: Backend, raw: str, kind: str, column: CanonicalColumn, spot: str, time_zone: str | None
) -> str:
    name, table = quoted(column.name), quoted(raw)
    if kind == "TIMESTAMP WITH TIME ZONE":
        moment = name
    elif kind == "TIMESTAMPTZ_NS":
        moment = f"timezone('UTC', {_whole_seconds(name)})"
    elif kind.startswith(("TIMESTAMP", "DATE")):
        if time_zone is None:
            _refuse_naive(
                connection, f"SELECT row_number, {name} FROM {table} WHERE {name} IS NOT NULL", spot
            )
        local = _whole_seconds(name) if kind == "TIMESTAMP_NS" else f"CAST({name} AS TIMESTAMP)"
        moment = f"timezone({literal(time_zone or 'UTC')}, {local})"
    elif kind == "VARCHAR":
        _refuse_uncastable(connection, raw, name, "TIMESTAMPTZ", spot, "a time")
        naive = f"{name} IS NOT NULL AND NOT regexp_matches({name}, {literal(_OFFSET)})"
        if time_zone is None:
            _refuse_naive(connection, f"SELECT row_number, {name} FROM {table} WHERE {naive}", spot)
        local = f"timezone({literal(time_zone or 'UTC')}, TRY_CAST({name} AS TIMESTAMP))"
        moment = f"CASE WHEN {naive} THEN {local} ELSE TRY_CAST({name} AS TIMESTAMPTZ) END"
    else:
        found = first_row(connection, f"SELECT {name} FROM {table} WHERE {name} IS NOT NULL LIMIT 1")
        if not found:
            return "CAST(NULL AS BIGINT)"
        raise InvalidValue(
            what=f"{found[0]!r} is not a time",
            where=spot,
            remedy="Write ISO 8601 with an offset; in a `sql` source, to_timestamp(seconds) makes one.",
        )
    missing = first_row(connection, f"SELECT min(row_number) FROM {table} WHERE {name} IS NULL")
    if column.optional is None and missing and missing[0] is not None:
        raise InvalidValue(
            what="the time is missing", where=f"{spot}, row {missing[0]}", remedy="Fill in the time."
        )
    return f"CAST(floor(epoch({moment})) AS BIGINT)"


def _whole_seconds(name: str) -> str:
    """The timestamp of a nanosecond column, fraction dropped: DuckDB's own cast would round it up."""
    nanoseconds, second = f"epoch_ns({name})", 10**9
    fraction = f"(({nanoseconds} % {second}) + {second}) % {second}"
    return f"make_timestamp(({nanoseconds} - {fraction}) // 1000)"


def _refuse_naive(connection: Backend, query: str, spot: str) -> None:
    found = first_row(connection, f"{query} ORDER BY 1 LIMIT 1")
    if found:
        raise NaiveTimestamp(
            what=f"the time {str(found[1])!r} has no time zone",
            where=f"{spot}, row {found[0]}",
            remedy="Write an offset (2026-01-05T09:00:00Z), or declare `time_zone` on the source if all its "
            "times are local to one zone.",
        )
