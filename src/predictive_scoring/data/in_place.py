"""Sources that the engine reads where they lie: typed columns into canonical ones, as SQL of that engine.

A database or a folder of Parquet files has typed columns, so types are checked once, not cells: text is never
read as a time or a number. Keys, times and duplicates are checked in the data, with an example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictive_scoring.data.canonical import CanonicalColumn
from predictive_scoring.data.engines import InPlace
from predictive_scoring.data.reading import duplicate, refuse_missing, refuse_zone
from predictive_scoring.errors import InvalidValue, NaiveTimestamp
from predictive_scoring.settings import TableSource

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.backends.duckdb import Backend

SPOKEN = {
    "instant": "times with an offset",
    "local": "times without an offset",
    "date": "dates",
    "number": "numbers",
    "flag": "true or false",
    "text": "text",
    "other": "another type",
}


def log_in_place(
    engine: InPlace,
    source: TableSource,
    path: str | None,
    columns: tuple[CanonicalColumn, ...],
    where: str,
    unique: str | None,
) -> tuple[ir.Table, tuple[str, ...]]:
    """The source with canonical columns, computed by the engine whenever it is read, and the names of all its
    columns. `unique` is the key that no two rows may share.

    Raises UnreadableFile, MissingColumn, InvalidValue, NaiveTimestamp, InvalidSetting and DuplicateKey."""
    name = where.rpartition(".")[2]
    relation = engine.relation(f"raw_{name}", source, path)
    kinds = _checked_kinds(engine, relation, source, columns, where)
    select = ", ".join(
        f"{_expression(engine, column, columns, kinds, source.time_zone)} AS {engine.quoted(column.canonical)}"
        for column in columns
    )
    query = f"SELECT {select} FROM {relation}"
    _refuse_cells(engine, query, columns, where)
    if unique is not None:
        key = engine.quoted(unique)
        twice = engine.query(
            f"SELECT {key}, count(*) FROM ({query}) AS rows_read GROUP BY {key} HAVING count(*) > 1 LIMIT 1"
        )
        if twice:
            [(shared, rows)] = twice
            raise duplicate(unique, shared, rows, where)
    return engine.view(name, query), tuple(kinds)


def fetch_in_place(
    engine: InPlace,
    source: TableSource,
    path: str | None,
    columns: tuple[CanonicalColumn, ...],
    where: str,
    reader: Backend,
    raw: str,
) -> tuple[str, ...]:
    """Copies the wanted columns of the source into the DuckDB table `raw`; the names of all its columns.

    Raises UnreadableFile, MissingColumn, InvalidValue and InvalidSetting."""
    relation = engine.relation(raw, source, path)
    kinds = _checked_kinds(engine, relation, source, columns, where)
    wanted = [column.name for column in columns if column.name in kinds]
    engine.fetch(relation, wanted, reader, raw)
    return tuple(kinds)


def _checked_kinds(
    engine: InPlace, relation: str, source: TableSource, columns: tuple[CanonicalColumn, ...], where: str
) -> dict[str, str]:
    """Kind by column, once it is sure that the canonical columns can be made of them."""
    kinds = engine.kinds(relation)
    zone = source.time_zone
    if zone is not None and not engine.is_time_zone(zone):
        refuse_zone(zone, where)
    refuse_missing(columns, kinds, where)
    for column in columns:
        kind = kinds.get(column.name)
        spot = f"{where}, column {column.name}"
        if kind is None:
            continue
        if column.kind == "instant":
            if kind in ("local", "date") and zone is None:
                raise NaiveTimestamp(
                    what=f"the column holds {SPOKEN[kind]}",
                    where=spot,
                    remedy="Store times with an offset (timestamptz), or declare `time_zone` on the source if all "
                    "its times are local to one zone.",
                )
            if kind not in ("instant", "local", "date"):
                raise InvalidValue(
                    what=f"the column holds {SPOKEN[kind]}, not times",
                    where=spot,
                    remedy="Store times with an offset (timestamptz), or cast the column in a `sql` source or a view.",
                )
        if column.kind == "number" and kind != "number":
            raise InvalidValue(
                what=f"the column holds {SPOKEN[kind]}, not numbers",
                where=spot,
                remedy="Cast it in a `sql` source or a view, or declare it a category.",
            )
    return kinds


def _expression(
    engine: InPlace,
    column: CanonicalColumn,
    columns: tuple[CanonicalColumn, ...],
    kinds: dict[str, str],
    time_zone: str | None,
) -> str:
    stands_in = next((other for other in columns if other.canonical == column.optional), None)
    if column.name not in kinds and stands_in is not None:
        return _expression(engine, stands_in, columns, kinds, time_zone)
    name = engine.quoted(column.name)
    if column.kind == "instant":
        moment = engine.instant(name, kinds[column.name], time_zone)
        if stands_in is None:
            return moment
        return f"coalesce({moment}, {_expression(engine, stands_in, columns, kinds, time_zone)})"
    return engine.number(name) if column.kind == "number" else engine.text(name)


def _refuse_cells(engine: InPlace, query: str, columns: tuple[CanonicalColumn, ...], where: str) -> None:
    """Raises InvalidValue for empty keys, missing times and endless numbers, in one pass over the rows."""
    wrong = {}
    endless = engine.number("'Infinity'")
    for column in columns:
        name = engine.quoted(column.canonical)
        if column.kind in ("key", "instant"):
            wrong[column] = f"{name} IS NULL"
        elif column.kind == "number":
            wrong[column] = f"abs({name}) = {endless}"
    counted = ", ".join(f"count(CASE WHEN {test} THEN 1 END)" for test in wrong.values())
    shown = engine.quoted(columns[0].canonical)
    [numbers] = engine.query(f"SELECT {counted} FROM ({query}) AS rows_read")
    for (column, test), number in zip(wrong.items(), numbers, strict=True):
        if number:
            [[example]] = engine.query(f"SELECT {shown} FROM ({query}) AS rows_read WHERE {test} LIMIT 1")
            raise InvalidValue(
                what=f"{number} rows have "
                + ("an infinite number" if column.kind == "number" else f"no {column.name}"),
                where=f"{where}, column {column.name}, for example where {columns[0].name} is {example!r}",
                remedy="Correct them, or leave these rows out with a `sql` source or a view.",
            )
