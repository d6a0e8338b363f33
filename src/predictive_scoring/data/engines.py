"""Engines: where the event log lies and the feature expressions run (DuckDB, PostgreSQL, Spark), through Ibis.

An engine answers Ibis expressions over one session and holds the canonical tables of that session; whatever it
was given is gone when it is closed. Text compares by code point on all of them, and instants are epoch seconds, so
that the same tables give the same features.
"""

from __future__ import annotations

import contextlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

import duckdb
import pandas as pd

from predictive_scoring.errors import InvalidSetting
from predictive_scoring.settings import TableSource

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.backends.duckdb import Backend as DuckdbBackend

ENGINES = ("duckdb", "postgres", "spark")


class Engine(Protocol):
    """What the floors above may ask of an engine.

    `backend` is its Ibis backend; `name` is one of `ENGINES`."""

    @property
    def name(self) -> str: ...

    @property
    def backend(self) -> Any: ...

    def temporary(self, name: str, frame: pd.DataFrame) -> AbstractContextManager[ir.Table]:
        """The frame as a table of this engine, dropped when the context ends. Missing cells are NULL."""
        ...

    def held(self, table: ir.Table) -> AbstractContextManager[ir.Table]:
        """The same rows, worked out once where that pays; dropped when the context ends."""
        ...

    def adopt(self, reader: DuckdbBackend, table: str) -> ir.Table:
        """The table of a DuckDB session as a table of this engine; `reader` need not keep it."""
        ...

    def in_place(self, source: TableSource, path: str | None) -> InPlace | None:
        """How this engine reads the source where it lies; None where it must be handed its rows. `path` is the
        source's path with its variables and its folder filled in."""
        ...

    def close(self) -> None:
        """Ends the session with all that it holds. May be called again."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class InPlace(Protocol):
    """Reading of sources where they lie, as `data.in_place` asks for it.

    The SQL snippets take a quoted column. `instant` is given its kind (`instant` with an offset, `local` time or
    `date`) and the declared zone, and answers epoch seconds, fraction dropped downwards."""

    def relation(self, name: str, source: TableSource, path: str | None) -> str:
        """Makes the raw rows of the source a temporary view and gives its quoted name.

        Raises UnreadableFile when the engine cannot."""
        ...

    def kinds(self, relation: str) -> dict[str, str]:
        """Kind by column: `instant`, `local`, `date`, `number`, `flag`, `text` or `other`."""
        ...

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of an answer."""
        ...

    def view(self, name: str, sql: str) -> ir.Table:
        """The answer as a table that is computed whenever it is read."""
        ...

    def fetch(self, relation: str, columns: Sequence[str], reader: DuckdbBackend, table: str) -> None:
        """Copies rows into a new DuckDB table: text as it is, times with their offsets, `row_number` first."""
        ...

    def quoted(self, name: str) -> str: ...

    def text(self, column: str) -> str: ...

    def number(self, column: str) -> str: ...

    def instant(self, column: str, kind: str, time_zone: str | None) -> str: ...

    def is_time_zone(self, name: str) -> bool: ...


class Session(ABC):
    """What the engines share: they keep what Ibis caches for a while, and are closed at the end of a `with`."""

    @contextlib.contextmanager
    def held(self, table: ir.Table) -> Iterator[ir.Table]:
        # A temporary table, in Spark a cached frame (in memory, the rest on disk).
        kept = table.cache()
        try:
            yield kept
        finally:
            kept.release()

    @abstractmethod
    def close(self) -> None:
        """See `Engine.close`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Duckdb(Session):
    """DuckDB in this process, in memory: the default, and the reader of files for every engine."""

    backend: DuckdbBackend
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False, compare=False)

    name = "duckdb"

    @contextlib.contextmanager
    def temporary(self, name: str, frame: pd.DataFrame) -> Iterator[ir.Table]:
        name = f"{name}_{next(self._numbers)}"
        table = self.backend.create_table(name, frame, temp=True)
        try:
            yield table
        finally:
            self.backend.drop_table(name)

    def adopt(self, reader: DuckdbBackend, table: str) -> ir.Table:
        name = f"{table}_{next(self._numbers)}"
        if reader is self.backend:
            reader.raw_sql(f'ALTER TABLE "{table}" RENAME TO "{name}"')
            return reader.table(name)
        return self.backend.create_table(name, reader.table(table).to_pyarrow())

    def in_place(self, source: TableSource, path: str | None) -> None:  # noqa: ARG002 - it reads nothing in place
        return None

    def close(self) -> None:
        self.backend.disconnect()


def connect_duckdb() -> DuckdbBackend:
    """A new DuckDB in memory, in UTC."""
    import ibis

    backend = ibis.duckdb.connect()
    backend.raw_sql("SET TimeZone = 'UTC'")
    # A notebook without ipywidgets cannot set it, and shows none anyway.
    with contextlib.suppress(duckdb.InvalidInputException):
        backend.raw_sql("SET enable_progress_bar = false")
    return backend


def open_engine(name: str = "duckdb", *, dsn: str | None = None, master: str | None = None) -> Engine:
    """The engine called `name`; close it, or use it in a `with`.

    `dsn` says where PostgreSQL is (`postgresql://user:password@host/database`), `master` where Spark runs
    (`local[*]` when not given). Raises InvalidSetting for another name or a missing dsn, and EnvironmentMissing
    when a driver or Java is not installed or the server cannot be reached."""
    if name == "duckdb":
        return Duckdb(connect_duckdb())
    if name == "postgres":
        from predictive_scoring.data.postgres import open_postgres

        return open_postgres(dsn)
    if name == "spark":
        from predictive_scoring.data.spark import open_spark

        return open_spark(master or "local[*]")
    raise InvalidSetting(
        what=f"there is no engine {name!r}", where="--engine", remedy=f"Choose one of: {', '.join(ENGINES)}."
    )
