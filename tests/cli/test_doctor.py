"""What `doctor` says of a store: each thing that is wrong, and how to mend it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from predictive_scoring.cli.app import app
from predictive_scoring.cli.diagnosing_service import service_checks
from predictive_scoring.keeping.store.facts import write_fact
from predictive_scoring.keeping.store.keys import create_key
from predictive_scoring.keeping.store.opening import open_store
from predictive_scoring.keeping.store.outbox import Outgoing, not_delivered, post
from predictive_scoring.keeping.store.rescoring import mark
from predictive_scoring.keeping.store.tables import REVISION_TABLE
from predictive_scoring.timeline import DAY

NOW = 1_800_000_000


@pytest.fixture
def store(tmp_path):
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    yield opened
    opened.close()


def look(tmp_path, now: int = NOW) -> dict[str, tuple[str, str, str]]:
    checks = service_checks(tmp_path, "demo", f"sqlite:///{tmp_path / 'store.db'}", now)
    return {check.name: (check.health, check.detail, check.remedy) for check in checks}


def test_a_store_that_is_not_there_yet_is_no_fault_and_is_not_made(tmp_path):
    assert look(tmp_path)["store"][0] == "optional"
    assert not (tmp_path / "store.db").exists()


def test_a_healthy_store_needs_nothing(tmp_path, store):
    store.write(lambda tx: (write_fact(tx, "worker", str(NOW - 5)), create_key(tx, "CRM", ["crm"], now=NOW)))
    found = look(tmp_path)
    assert {health for health, _, _ in found.values()} == {"ok"}
    assert "journal mode wal" in found["store"][1]


def test_what_will_do_harm_is_told_with_its_remedy(tmp_path, store):
    def harm(tx) -> None:
        write_fact(tx, "worker", str(NOW - 3600))
        create_key(tx, "old", ["crm"], now=NOW - 30 * DAY, expires=NOW + 3 * DAY)
        mark(tx, ["L-1"], NOW - 3600)
        post(tx, [Outgoing("crm", "score.changed", "{}")], NOW)
        not_delivered(tx, 1, "TimeoutError", attempts=9, due=NOW, dead=True)

    store.write(harm)
    found = look(tmp_path)
    told = {"API keys", "background worker", "re-scoring", "webhooks"}
    assert {name for name, (health, _, _) in found.items() if health == "warning"} == told
    assert all(found[name][2] for name in told)
    # An hour earlier the clock would be wrong, not the worker.
    assert look(tmp_path, NOW - 2 * 3600)["clock"][0] == "warning"
    assert "expires" in found["API keys"][1]
    assert look(tmp_path, NOW + 4 * DAY)["API keys"][1] == "none is valid"


def test_a_damaged_store_and_one_of_another_release_are_missing(tmp_path, store):
    newer = f"UPDATE {REVISION_TABLE} SET version_num = '9999'"  # noqa: S608 a name of our own
    store.write(lambda tx: tx.connection.exec_driver_sql(newer))
    health, detail, remedy = look(tmp_path)["store"]
    assert (health, "9999" in detail, bool(remedy)) == ("missing", True, True)
    store.close()
    for path in tmp_path.glob("store.db*"):
        path.unlink()
    (tmp_path / "store.db").write_bytes(b"no database" * 1000)
    assert look(tmp_path)["store"][0] == "missing"


def test_the_verb_answers_programs(small_champion, tmp_path):
    done = CliRunner().invoke(
        app,
        [
            "doctor", "--json", "--project", str(small_champion.file), "--models", str(small_champion.models),
            "--tracking-uri", small_champion.tracking_uri, "--database-url", f"sqlite:///{tmp_path / 'none.db'}",
            "--port", "1",
        ],
    )  # fmt: skip
    names = {check["name"] for check in json.loads(done.stdout)["checks"]}
    assert {"store", "memory", "port 1", "project", "MLflow"} <= names
