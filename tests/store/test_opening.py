"""Opening a store: the tables come of themselves, once, and a store of another release is refused."""

import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select, update

from predictive_scoring.errors import IncompatibleStore, InvalidSetting, StoreUnavailable
from predictive_scoring.keeping.store import migrations, tables
from predictive_scoring.keeping.store.connection import LOCKS
from predictive_scoring.keeping.store.histories import read_lead
from predictive_scoring.keeping.store.opening import VARIABLE, database_url, open_store
from store_messages import NOON, identify, ingested


def test_the_migrations_make_exactly_the_tables_that_the_code_reads(empty_url):
    store = open_store(empty_url)
    with store.engine.connect() as connection:
        options = {"version_table": tables.REVISION_TABLE, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), tables.metadata) == []
    store.close()


def test_the_revision_that_the_code_names_is_the_newest_migration():
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    assert ScriptDirectory.from_config(config).get_heads() == [tables.REVISION]


def test_workers_that_start_together_migrate_once_and_share_one_secret(empty_url):
    program = (
        "import os, sys\n"
        "import alembic.command\n"
        "from predictive_scoring.keeping.store.opening import open_store\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        store = open_store(sys.argv[1], wait=60)\n"
        "        os.write(1, store.secret.hex().encode() + b'\\n')\n"
        "        os._exit(0)\n"
        "sys.exit(max(os.wait()[1] for _ in range(3)))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, empty_url], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    answers = run.stdout.split()
    assert len(answers) == 3
    assert len(set(answers)) == 1
    assert len(answers[0]) == 64
    store = open_store(empty_url)
    counters = tables.counters
    rows = store.read(lambda tx: tx.rows(select(counters.c.name)))
    assert sorted(row.name for row in rows) == sorted(LOCKS)
    store.close()


def test_a_store_of_the_first_revision_is_brought_up_to_date_with_what_it_knows(empty_url):
    store = open_store(empty_url)
    told = [identify(f"i{at}", at=at, title="VP", size=2.0, tags=["a", "ß"]) for at in (0, 20)]
    ingested(store, *told, identify("o", "L-2", title="Clerk"))
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE attribute_confirmations")
        connection.exec_driver_sql("UPDATE store_revision SET version_num = '0001'")
    store.close()
    with pytest.raises(IncompatibleStore, match="revision 0001"):
        open_store(empty_url, migrate=False)
    store = open_store(empty_url)
    with store.engine.connect() as connection:
        options = {"version_table": tables.REVISION_TABLE, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), tables.metadata) == []
    ingested(store, identify("late", at=10, title="Clerk", size=3, tags=[]))
    changes = store.read(lambda tx: read_lead(tx, "L-1")).changes
    assert {(one.attribute, one.value) for one in changes if one.occurred == NOON + 20} == {
        ("title", "VP"),
        ("size", "2"),
        ("tags", '["a","ß"]'),
    }
    store.close()


def test_a_store_of_a_newer_release_is_refused_and_left_as_it_is(empty_url):
    store = open_store(empty_url)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE store_revision SET version_num = '9999'")
    store.close()
    for migrate in (True, False):
        with pytest.raises(IncompatibleStore, match="revision 9999"):
            open_store(empty_url, migrate=migrate)


def test_without_migration_an_empty_database_is_refused(empty_url):
    with pytest.raises(IncompatibleStore, match="revision none"):
        open_store(empty_url, migrate=False)


def test_somebody_elses_tables_are_not_touched(empty_url):
    store = open_store(empty_url)
    with store.engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE {tables.REVISION_TABLE}")
    store.close()
    with pytest.raises(IncompatibleStore, match="not ours"):
        open_store(empty_url)


@pytest.mark.parametrize("address", ["mysql://host/x", "sqlite://", "sqlite:///:memory:", "nonsense", ""])
def test_an_address_of_another_kind_is_refused(address):
    with pytest.raises(InvalidSetting):
        open_store(address)


def test_a_password_is_never_shown(tmp_path):
    with pytest.raises(StoreUnavailable) as refused:
        open_store(f"postgresql://somebody:verysecret@/nobody?host={tmp_path}", wait=1)
    assert refused.value.exit_code == 4
    assert "verysecret" not in str(refused.value)
    assert "somebody" in refused.value.where


def test_what_is_no_database_is_refused_by_name(tmp_path):
    (tmp_path / "text.db").write_text("this is no database, but long enough to be looked at " * 50)
    with pytest.raises(StoreUnavailable, match="no SQLite database"):
        open_store(f"sqlite:///{tmp_path / 'text.db'}", wait=1)
    with pytest.raises(StoreUnavailable):
        open_store(f"sqlite:///{tmp_path}", wait=1)


def test_the_address_comes_from_the_environment_or_lies_beside_the_models(tmp_path):
    assert database_url({VARIABLE: "postgresql://db/x"}, tmp_path) == "postgresql://db/x"
    assert database_url({}, tmp_path) == f"sqlite:///{tmp_path / 'store.db'}"


def test_a_transaction_that_fails_leaves_nothing(store):
    def failing(tx):
        tx.execute(update(tables.facts).values(value="overwritten"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.write(failing)
    value = store.read(lambda tx: tx.rows(select(tables.facts.c.value))[0].value)
    assert value == store.secret.hex()


def test_a_writer_that_waits_too_long_is_refused_by_name(store, url):
    impatient = open_store(url, wait=0.2)

    def holding(tx):
        tx.lock("history")
        with pytest.raises(StoreUnavailable, match="held the store"):
            impatient.write(lambda other: other.lock("history"))

    store.write(holding)
    impatient.write(lambda tx: tx.lock("history"))
    impatient.close()
