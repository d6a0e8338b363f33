"""Opening a store: where it is, how it is configured, and that its tables are of this release.

sqlite:////var/lib/scoring/store.db     a file in WAL mode; nothing to set up
postgresql://user@host/database         a database of its own, through psycopg
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, column, create_engine, event, inspect, make_url, select, table
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from predictive_scoring.errors import EnvironmentMissing, IncompatibleStore, InvalidSetting
from predictive_scoring.keeping.store.connection import LOCKS, Store, unavailable
from predictive_scoring.keeping.store.tables import (
    REVISION,
    REVISION_TABLE,
    counters,
    facts,
    metadata,
)

VARIABLE = "PREDICTIVE_SCORING_DATABASE_URL"
FILE = "store.db"
WAIT = 10
"""Seconds that a writer waits for the one before it."""
_MIGRATION_LOCK = 7_203_211_860_114
"""Any number: the advisory lock of PostgreSQL under which one worker migrates."""


def database_url(environment: Mapping[str, str], folder: Path) -> str:
    """The address of a project's store: the variable's, or a file in the project's model folder."""
    return environment.get(VARIABLE) or f"sqlite:///{(folder / FILE).resolve()}"


def open_store(url: str, *, migrate: bool = True, wait: float = WAIT) -> Store:
    """The store at `url`, its tables made or brought up to date (by one worker, however many start together).

    Without `migrate` tables of another release are refused. `wait` (seconds) is how long a writer waits for
    another one. Raises InvalidSetting for an address of another kind, EnvironmentMissing without the driver,
    StoreUnavailable, and IncompatibleStore for tables of a newer release or of somebody else."""
    address = _address(url)
    engine = _engine(address, wait)
    where = address.render_as_string(hide_password=True)
    try:
        if engine.dialect.name == "sqlite":
            _use_wal(engine, wait)
        with engine.connect() as connection:
            revision = _revision(connection)
        if revision != REVISION:
            _refuse(revision, where, migrate)
            _migrate(engine, where)
        with engine.connect() as connection:
            secret = connection.execute(select(facts.c.value).where(facts.c.name == "secret")).scalar_one()
    except DBAPIError as refused:
        engine.dispose()
        found = unavailable(refused, where)
        if found is refused:
            raise
        raise found from refused
    except BaseException:
        engine.dispose()
        raise
    return Store(engine, bytes.fromhex(secret))


def _address(url: str) -> URL:
    try:
        address = make_url(url)
    except ArgumentError as refused:
        raise _invalid("this is no address of a database") from refused
    if address.drivername in ("postgres", "postgresql"):
        return address.set(drivername="postgresql+psycopg")
    if address.drivername == "sqlite" and address.database not in (None, "", ":memory:"):
        return address
    if address.drivername == "postgresql+psycopg":
        return address
    raise _invalid(f"a store is not kept in {address.drivername!r} (or not in memory)")


def _invalid(what: str) -> InvalidSetting:
    return InvalidSetting(
        what=what,
        where=VARIABLE,
        remedy="Write sqlite:////path/store.db or postgresql://user:password@host/database.",
    )


def _engine(address: URL, wait: float) -> Engine:
    # Errors never show the values of a statement: they are personal data.
    options: dict[str, Any] = {"hide_parameters": True, "json_serializer": _json}
    if address.get_backend_name() == "sqlite":
        options["connect_args"] = {"timeout": wait}
    else:
        milliseconds = int(wait * 1000)
        options["pool_pre_ping"] = True
        options["connect_args"] = {
            "connect_timeout": max(2, int(wait)),
            "application_name": "predictive_scoring",
            # A writer that hangs must not stop all others for ever.
            "options": f"-c lock_timeout={milliseconds} -c idle_in_transaction_session_timeout={3 * milliseconds} "
            "-c timezone=UTC",
        }
        if "options" in address.query:
            options["connect_args"]["options"] += f" {address.query['options']}"
    try:
        engine = create_engine(address, **options)
    except (ModuleNotFoundError, NoSuchModuleError) as refused:
        raise EnvironmentMissing(
            what="the driver for PostgreSQL is not installed",
            where=VARIABLE,
            remedy="pip install 'predictive-scoring[postgres]'",
        ) from refused
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin)
    return engine


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _configure(connection: Any, _: object) -> None:
    # The driver's own BEGIN comes too late: a writer must take its turn before it reads.
    connection.isolation_level = None
    cursor = connection.cursor()
    # FULL: a commit is on the disk before it is answered. NORMAL would keep the file whole, but lose the last
    # commits with the power.
    cursor.execute("PRAGMA synchronous=FULL")
    # What is erased is overwritten, not only forgotten.
    cursor.execute("PRAGMA secure_delete=ON")
    cursor.execute("PRAGMA temp_store=MEMORY")
    cursor.close()


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if not options.get("alone", False):
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writing", False) else "BEGIN")


def _use_wal(engine: Engine, wait: float) -> None:
    """Readers and the writer do not wait for each other. Kept in the file once it is set."""
    Path(str(engine.url.database)).parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait
    with engine.connect().execution_options(alone=True) as connection:
        while True:
            try:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL").all()
                return
            except OperationalError:
                # SQLite does not wait by itself here while another process makes the same change.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


def _revision(connection: Connection) -> str | None:
    """The revision noted in the database; None: it has never been a store."""
    if not inspect(connection).has_table(REVISION_TABLE):
        return None
    answer = connection.execute(select(column("version_num")).select_from(table(REVISION_TABLE))).scalar()
    return None if answer is None else str(answer)


def _refuse(found: str | None, where: str, migrate: bool) -> None:
    """Raises IncompatibleStore for a newer revision, and for any other when it may not be changed."""
    if found is not None and found > REVISION:
        raise IncompatibleStore(
            what=f"the store has revision {found}; this release knows up to {REVISION}",
            where=where,
            remedy="Install the release that made it, or a newer one; a store never goes back.",
        )
    if not migrate:
        raise IncompatibleStore(
            what=f"the store has revision {found or 'none'}, this release needs {REVISION}",
            where=where,
            remedy="Open it with migrate=True once; the service and the command line do.",
        )


def _migrate(engine: Engine, where: str) -> None:
    """Bring the tables up to date in one transaction, alone."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    with engine.connect().execution_options(writing=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
        # Another worker may have been quicker.
        found = _revision(connection)
        if found == REVISION:
            return
        _refuse(found, where, migrate=True)
        if found is None:
            _refuse_foreign(connection, where)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if found is None:
            connection.execute(facts.insert(), {"name": "secret", "value": secrets.token_hex(32)})
            connection.execute(counters.insert(), [{"name": name, "value": 0} for name in LOCKS])


def _refuse_foreign(connection: Connection, where: str) -> None:
    taken = sorted(set(inspect(connection).get_table_names()) & set(metadata.tables))
    if taken:
        raise IncompatibleStore(
            what=f"the database holds a table {taken[0]!r} that is not ours",
            where=where,
            remedy="Give the store a database of its own, or a schema: …?options=-csearch_path%3Dscoring.",
        )
