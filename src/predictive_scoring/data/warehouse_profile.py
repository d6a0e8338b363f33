"""What a table of a PostgreSQL database looks like, for a draft: kinds from a part of its rows, facts from all of them.

The part is drawn by a hash of each row, so that the same table always gives the same draft. Keys, levels and ranges of
time are asked from the database over the whole table. Nothing is written there.
"""

# ruff: noqa: S608  SQL over the user's own tables, every name through canonical.quoted

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from predictive_scoring.data.canonical import quoted
from predictive_scoring.data.postgres import Postgres, open_postgres
from predictive_scoring.data.profile import TableProfile, literal
from predictive_scoring.errors import UnreadableFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_ROWS = 100_000


class WarehouseProfile(TableProfile):
    """A table or view of the database; `rows` and the columns speak of at most some MOST_ROWS of its rows."""

    def __init__(self, session: Postgres, table: str) -> None:
        """Reads the table `table` (`schema.table`). Raises UnreadableFile."""
        import psycopg

        self._open(Path(table))
        self._session, self.table = session, table
        self.relation = ".".join(quoted(part) for part in table.split("."))
        try:
            self._read()
        except psycopg.Error as refused:
            raise UnreadableFile(
                what=f"PostgreSQL refuses: {str(refused).splitlines()[0]}",
                where=table,
                remedy=f"Check the name (schema.table) and the permission to SELECT. {_others(session)}",
            ) from refused

    @property
    def stem(self) -> str:
        return self.path.name.split(".")[-1]

    def levels(self, column: str, limit: int = 200) -> dict[str, int]:
        rows = self._session.query(
            f"SELECT level, count(*) FROM (SELECT CAST({quoted(column)} AS text) AS level FROM {self.relation}) cells "
            f"WHERE level <> '' GROUP BY level ORDER BY count(*) DESC, level COLLATE \"C\" LIMIT {limit}"
        )
        return {str(value): int(number) for value, number in rows}

    def is_key(self, column: str) -> bool:
        rows, distinct = self._session.query(
            f"SELECT count(*), count(DISTINCT {quoted(column)}) FROM {self.relation}"
        )[0]
        return int(rows) > 0 and int(rows) == int(distinct)

    def _read(self) -> None:
        self._session.query("SET TimeZone = 'UTC'")
        shown = self._session.query(
            "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute "
            f"WHERE attrelid = {literal(self.relation)}::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        )
        names = [str(name) for name, _ in shown]
        total = int(self._session.query(f"SELECT count(*) FROM {self.relation}")[0][0])
        every = -(-total // MOST_ROWS)
        part = f" WHERE abs(hashtext(CAST(t AS text))::bigint) % {every} = 0" if every > 1 else ""
        columns = ", ".join(f"CAST({quoted(name)} AS text)" for name in names)
        frame = pd.DataFrame(
            self._session.query(f"SELECT {columns} FROM {self.relation} t{part}"), columns=names, dtype=object
        )
        self._connection.register("fetched", frame)
        texts = ", ".join(f"CAST({quoted(name)} AS VARCHAR) AS {quoted(name)}" for name in names)
        self._connection.execute(f"CREATE TABLE raw AS SELECT {texts} FROM fetched")
        self._connection.unregister("fetched")
        self.rows, found = self._profiled(names, {})
        self.columns = {}
        for name, kind in shown:
            column = found[str(name)]
            if column.instant and str(kind).startswith(("timestamp", "date")):
                oldest, newest = self._session.query(
                    f"SELECT extract(epoch FROM min({quoted(name)})), extract(epoch FROM max({quoted(name)})) "
                    f"FROM {self.relation}"
                )[0]
                column = replace(column, oldest=int(oldest), newest=int(newest))
            self.columns[str(name)] = column


@contextmanager
def warehouse_tables(dsn: str, names: Sequence[str]) -> Iterator[list[TableProfile]]:
    """Profiles of tables of the database that `dsn` names, as long as the session is open. Raises UnreadableFile and
    EnvironmentMissing."""
    with open_postgres(dsn) as session:
        yield [WarehouseProfile(session, name) for name in names]


def _others(session: Postgres) -> str:
    rows = session.query(
        "SELECT table_schema || '.' || table_name FROM information_schema.tables "
        "WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1 LIMIT 30"
    )
    found = ", ".join(str(row[0]) for row in rows)
    return f"Tables found: {found or 'none'}."
