"""Transactions on the store: one way to read, one way to write, and every refusal of a database by name.

Writers take turns. SQLite has one writer at a time anyway; in PostgreSQL a writer raises a row of `counters`
first, which locks it until the commit. So both databases know the same few orders of events, and what is
proved for one holds for the other:

    history    leads, aliases, events, attributes and everything else that is told about leads
    scores     the cursor of scores: its order is the order of the commits
    audit      the chain of the audit log

A writer that needs several takes them in this order, so two writers never wait for each other.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    CursorResult,
    Engine,
    Executable,
    LargeBinary,
    String,
    Table,
    Text,
    column,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.types import TypeEngine

from predictive_scoring.errors import StoreUnavailable
from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.messages import is_storable

T = TypeVar("T")
Lock = Literal["history", "scores", "audit"]
LOCKS: tuple[Lock, ...] = ("history", "scores", "audit")

MOST_ATTEMPTS = 3
"""How often a transaction is tried that PostgreSQL ended in favour of another one."""
_YIELDED = {"40001", "40P01"}  # serialization_failure, deadlock_detected
_UNAVAILABLE = {
    "53100": "the database's disk is full",
    "53200": "the database is out of memory",
    "53300": "the database has no connection left",
    "55P03": "another writer held the store for too long",
    "57014": "the statement took too long",
    "57P01": "the database is being stopped",
    "57P02": "the database crashed",
    "57P03": "the database is starting or stopping",
    "25006": "the database is read-only",
    "25P03": "the transaction was idle for too long",
    "58030": "the database cannot read or write its files",
}
_SQLITE = {
    "SQLITE_FULL": "the disk is full",
    "SQLITE_BUSY": "another writer held the store for too long",
    "SQLITE_LOCKED": "another writer held the store for too long",
    "SQLITE_IOERR": "the disk cannot be read or written",
    "SQLITE_READONLY": "the file is read-only",
    "SQLITE_CANTOPEN": "the file cannot be opened",
    "SQLITE_CORRUPT": "the file is damaged",
    "SQLITE_NOTADB": "the file is no SQLite database",
    "SQLITE_NOMEM": "the memory is full",
    "SQLITE_PERM": "the file may not be opened",
}
_REMEDY = (
    "Nothing of the last request was kept unless it was answered. Mend the database (space, rights, address, "
    "PREDICTIVE_SCORING_DATABASE_URL), then send the same again: ids that were seen are not counted twice."
)


@dataclass(frozen=True)
class Transaction:
    """A transaction under way; the functions of this package read and write through it."""

    connection: Connection
    secret: bytes = field(repr=False)

    def execute(
        self, statement: Executable, rows: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None
    ) -> CursorResult[Any]:
        """Run a statement, with several rows in one round trip."""
        return self.connection.execute(statement, rows)

    def rows(self, statement: Executable) -> Sequence[Any]:
        """All rows of the answer."""
        return self.connection.execute(statement).all()

    @property
    def is_sqlite(self) -> bool:
        return self.connection.dialect.name == "sqlite"

    def insert(self, table: Table) -> postgresql.Insert:
        """An INSERT of this database's kind, for its ON CONFLICT (spelled alike in both)."""
        if self.is_sqlite:
            return sqlite.insert(table)  # type: ignore[return-value]  # the same methods
        return postgresql.insert(table)

    def insert_rows(
        self,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        then: Callable[[postgresql.Insert], postgresql.Insert] = lambda insert: insert,
        returning: Column[Any] | None = None,
    ) -> list[Any]:
        """Insert rows (all with the same keys) in one statement; `then` adds what to do on a conflict. The values
        of `returning` of the rows that were written.

        PostgreSQL is sent one JSON text: a statement of thousands of values would be parsed anew each time."""
        if not rows:
            return []
        insert = self.insert(table)
        if self.is_sqlite:
            if returning is None:
                self.connection.execute(then(insert), rows)
                return []
            return list(self.connection.execute(then(insert).returning(returning), rows).scalars())
        names = list(rows[0])
        listed = (
            func.json_to_recordset(literal(_in_json(table, rows), postgresql.JSON))
            .table_valued(*(column(name, _plain(table.c[name].type)) for name in names))
            .render_derived(with_types=True)
        )
        chosen = select(*(listed.c[name] for name in names))
        full = then(insert.from_select(names, chosen))
        if returning is None:
            self.connection.execute(full)
            return []
        return list(self.connection.execute(full.returning(returning)).scalars())

    def among(self, of: ColumnElement[Any], values: Sequence[str]) -> ColumnElement[bool]:
        """The column's value is one of these texts (one parameter, however many they are); texts that no database
        could hold are not looked for."""
        values = [value for value in values if is_storable(value)]
        if self.is_sqlite:
            listed = func.json_each(json.dumps(values)).table_valued("value")
            return of.in_(select(listed.c.value))
        return of == func.any(literal(values, postgresql.ARRAY(Text)))

    def lock(self, name: Lock, raised_by: int = 1) -> int:
        """Wait for our turn, and the counter's value after it was raised. Held until the commit."""
        counters = tables.counters
        statement = (
            update(counters)
            .where(counters.c.name == name)
            .values(value=counters.c.value + raised_by)
            .returning(counters.c.value)
        )
        return int(self.connection.execute(statement).scalar_one())

    def counter(self, name: Lock) -> int:
        """A counter's value, without a lock: `history` rises with every change of any lead's history."""
        counters = tables.counters
        return int(
            self.connection.execute(select(counters.c.value).where(counters.c.name == name)).scalar_one()
        )

    def pseudonym(self, lead_id: str) -> str:
        """The lead's id as a keyed hash: the same for the same id, and of no use outside this store."""
        return hmac.new(self.secret, lead_id.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Store:
    """An open store. Threads may share it; a process of its own opens its own."""

    engine: Engine
    secret: bytes = field(repr=False)

    @property
    def where(self) -> str:
        """The database, without its password."""
        return self.engine.url.render_as_string(hide_password=True)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def read(self, work: Callable[[Transaction], T]) -> T:
        """What `work` reads, all of it as of one instant. Raises StoreUnavailable.

        Begun once more where the connection turns out to be dead."""
        options: dict[str, Any] = (
            {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        )
        with self._named():
            try:
                return self._run(work, options)
            except DBAPIError as refused:
                if not refused.connection_invalidated:
                    raise
            return self._run(work, options)

    def write(self, work: Callable[[Transaction], T]) -> T:
        """What `work` answers, once everything that it wrote is durably kept, or nothing of it.

        `work` may run again where PostgreSQL ended it in favour of another writer. Raises StoreUnavailable; the
        write then did not happen, or (the connection broke while it was confirmed) may have."""
        with self._named():
            for attempt in range(1, MOST_ATTEMPTS + 1):
                try:
                    return self._run(work, {"writing": True})
                except DBAPIError as refused:
                    if attempt == MOST_ATTEMPTS or _state(refused) not in _YIELDED:
                        raise
        raise AssertionError("the last attempt answers or raises")

    def _run(self, work: Callable[[Transaction], T], options: Mapping[str, Any]) -> T:
        with self.engine.connect() as connection:
            chosen = connection.execution_options(**options)
            with chosen.begin():
                return work(Transaction(chosen, self.secret))

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, PoolTimeout) as refused:
            found = unavailable(refused, self.where)
            if found is refused:
                raise
            raise found from refused

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _state(refused: DBAPIError) -> str | None:
    found = getattr(refused.orig, "sqlstate", None)
    return found if isinstance(found, str) else None


def unavailable(refused: DBAPIError | PoolTimeout, where: str) -> Exception:
    """The named error for what a database refused, or the error itself where it is a mistake of ours."""
    if isinstance(refused, PoolTimeout):
        what = "every connection to the database is busy"
    else:
        state = _state(refused)
        name = str(getattr(refused.orig, "sqlite_errorname", ""))
        known = next((text for prefix, text in _SQLITE.items() if name.startswith(prefix)), None)
        if state in _UNAVAILABLE:
            what = _UNAVAILABLE[state]
        elif known is not None:
            what = known
        elif refused.connection_invalidated or (
            isinstance(refused, OperationalError | InterfaceError) and state is None and not name
        ):
            what = "the database cannot be reached"
        else:
            return refused
    return StoreUnavailable(what=what, where=where, remedy=_REMEDY)


def _plain(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type within a JSON text: a text needs no length and no order of letters there."""
    if isinstance(kind, tables.Packed):
        return LargeBinary()
    return Text() if isinstance(kind, String) else kind


def _in_json(table: Table, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The rows as JSON can hold them: PostgreSQL reads bytes out of their hexadecimal text."""
    names = [name for name in rows[0] if isinstance(table.c[name].type, tables.Packed)]
    if not names:
        return rows
    return [
        {**row, **{name: _hexadecimal(row[name]) for name in names if row[name] is not None}} for row in rows
    ]


def _hexadecimal(text: str) -> str:
    return f"\\x{tables.packed(text).hex()}"
