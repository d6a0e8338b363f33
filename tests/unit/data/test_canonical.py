"""Names and select lists of the canonical tables."""

from __future__ import annotations

import ibis
import pytest

from predictive_scoring.data.canonical import CanonicalColumn, canonical_select, quoted


def read(values: str, *columns: CanonicalColumn, time_zone: str | None = None) -> list[tuple[object, ...]]:
    """Canonical rows of a table `raw` made by the SELECT in `values`."""
    connection = ibis.duckdb.connect()
    connection.raw_sql("SET TimeZone = 'UTC'")
    connection.raw_sql(f"CREATE TABLE raw AS SELECT row_number() OVER () AS row_number, * FROM ({values})")  # noqa: S608 - our own values
    described = {str(row[0]): str(row[1]) for row in connection.raw_sql("DESCRIBE raw").fetchall()}
    select = canonical_select(connection, "raw", described, columns, "sources.leads", time_zone)
    return list(connection.raw_sql(f"SELECT {select} FROM raw ORDER BY row_number").fetchall())  # noqa: S608 - what is tested


@pytest.mark.parametrize(
    "name", ["plain", "emp.var.rate", 'say "so"', "it's", "sélect", "two words", "; DROP TABLE raw"]
)
def test_any_column_name_is_read_as_it_is_spelt(name: str) -> None:
    assert read(f"SELECT 7 AS {quoted(name)}", CanonicalColumn(name, "number")) == [(7.0,)]


def test_a_column_is_renamed_and_an_absent_one_is_stood_in_for() -> None:
    rows = read(
        "SELECT TIMESTAMPTZ '2026-01-05 09:00:00+00' AS occurred_at",
        CanonicalColumn("occurred_at", "instant", "occurred"),
        CanonicalColumn("known_at", "instant", "known", optional="occurred"),
        CanonicalColumn("lead_id", "key", optional="'row-' || row_number"),
    )
    assert rows == [(1_767_603_600, 1_767_603_600, "row-1")]


def test_an_optional_time_falls_back_row_by_row() -> None:
    rows = read(
        "SELECT * FROM (VALUES ('2026-01-05T09:00:00Z', NULL), ('2026-01-05T09:00:00Z', '2026-01-05T10:00:00Z')) "
        "AS t(occurred_at, known_at)",
        CanonicalColumn("occurred_at", "instant", "occurred"),
        CanonicalColumn("known_at", "instant", "known", optional="occurred"),
    )
    assert rows == [(1_767_603_600, 1_767_603_600), (1_767_603_600, 1_767_607_200)]


def test_values_that_are_typed_already_keep_their_meaning() -> None:
    rows = read(
        "SELECT 42 AS key, true AS flag, 0.5::DECIMAL(4, 2) AS number, false AS spoken, 'NaN'::DOUBLE AS missing",
        CanonicalColumn("key", "key"),
        CanonicalColumn("flag", "flag"),
        CanonicalColumn("number", "number"),
        CanonicalColumn("spoken", "category"),
        CanonicalColumn("missing", "number"),
    )
    assert rows == [("42", True, 0.5, "false", None)]


def test_a_time_column_without_any_value_is_empty_whatever_its_type() -> None:
    columns = (CanonicalColumn("at", "instant", optional="since"), CanonicalColumn("since", "instant"))
    since = "TIMESTAMPTZ '1970-01-01 00:00:01+00' AS since"
    for kind in ("INTEGER", "VARCHAR", "TIMESTAMP", "TIMESTAMPTZ", "DATE", "TIMESTAMP_NS", "TIMESTAMPTZ_NS"):
        assert read(f"SELECT NULL::{kind} AS at, {since}", *columns) == [(1, 1)], kind
