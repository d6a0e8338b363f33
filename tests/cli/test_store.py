"""The verbs on the store, through the command line."""

import json
import time

import pandas as pd
import pytest
from typer.testing import CliRunner

from predictive_scoring.cli.app import app
from predictive_scoring.keeping.store.opening import open_store
from predictive_scoring.keeping.store.outbox import Outgoing, not_delivered, post, take_due
from predictive_scoring.keeping.vectors import FOLDER, ServedVector, VectorLog
from store_messages import NOON, event, identify, ingested

PROJECT = """
name: small
sources:
  leads: {path: leads.parquet}
  events: {path: events.parquet}
attributes: {country: {type: category, label: Country, immutable: true}}
events: {page_view: {label: Page view}, won: {label: Won}}
conversion: {event: won, horizon: 30d}
cutoffs: {first: 2026-01-01T00:00:00Z, every: 14d}
readiness: {weekly_capacity: 10}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("PREDICTIVE_SCORING_DATABASE_URL", raising=False)
    (tmp_path / "scoring.yaml").write_text(PROJECT)
    return tmp_path


@pytest.fixture
def call(folder):
    def run(*arguments, code=0):
        options = ["--project", str(folder / "scoring.yaml"), "--models", str(folder / "models")]
        answer = CliRunner().invoke(app, [*map(str, arguments), *options])
        assert answer.exit_code == code, answer.output
        return answer.stdout

    return run


@pytest.fixture
def store(folder):
    opened = open_store(f"sqlite:///{folder / 'models' / 'small' / 'store.db'}")
    ingested(opened, identify("i", "jane", country="DE"), event("e", "jane", 5), event("f", "john", 6))
    yield opened
    opened.close()


def test_a_key_is_made_listed_and_revoked(call):
    made = json.loads(
        call("keys", "create", "--name", "HubSpot", "--scope", "crm", "--expires", "30d", "--json")
    )
    assert made["key"].startswith(f"psk_{made['key_id']}_")
    assert (made["scopes"], made["state"]) == (["crm"], "valid")
    listed = call("keys", "list")
    assert "HubSpot" in listed
    assert made["key"].split("_", 2)[2] not in listed
    (revoked,) = json.loads(call("keys", "revoke", made["key_id"], "--json"))["keys"]
    assert revoked["state"] == "revoked"
    spoken = call("keys", "create", "--name", "Page", "--scope", "marketer")
    assert spoken.startswith("psk_")
    assert json.loads(call("audit", "verify", "--json"))["rows"] == 3


def test_webhooks_that_were_given_up_are_listed_and_tried_again(call, store):
    assert json.loads(call("webhooks", "list", "--json")) == {"waiting": 0, "given_up": 0, "messages": []}
    assert call("webhooks", "list") == "0 on their way, 0 given up.\n"

    def give_up(tx):
        post(
            tx,
            [Outgoing("crm", "score.changed", '{"secret":"body"}', lead) for lead in ("jane", "john")],
            NOON,
        )
        first, second = (one.message_id for one in take_due(tx, NOON, 10, 60))
        for one in (first, second):
            not_delivered(tx, one, "HTTP 500", attempts=10, due=NOON, dead=True)
        return first, second

    first, second = store.write(give_up)
    listed = json.loads(call("webhooks", "list", "--json"))
    assert (listed["waiting"], listed["given_up"]) == (0, 2)
    assert listed["messages"][0] == {
        "message": first,
        "to": "crm",
        "event": "score.changed",
        "lead": "jane",
        "created": "2026-11-10T12:00:00Z",
        "attempts": 10,
        "last_error": "HTTP 500",
    }
    assert "john" in call("webhooks", "list")
    assert json.loads(call("webhooks", "retry", first, first + 99, "--json")) == {"retried": 1}
    assert json.loads(call("webhooks", "list", "--json"))["messages"][0]["message"] == second
    assert call("webhooks", "retry").startswith("1 will be tried again")
    assert call("webhooks", "list") == "2 on their way, 0 given up.\n"
    due = store.write(lambda tx: take_due(tx, int(time.time()) + 1, 10, 60))
    assert [(one.message_id, one.attempts) for one in due] == [(first, 0), (second, 0)]
    assert json.loads(call("audit", "verify", "--json"))["rows"] == 2


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("webhooks", "send"), "InvalidSetting"),
        (("keys", "make"), "InvalidSetting"),
        (("keys", "create"), "InvalidSetting"),
        (("keys", "create", "--name", "x"), "InvalidSetting"),
        (("keys", "create", "--name", "x", "--scope", "root"), "InvalidSetting"),
        (("keys", "create", "--name", "x", "--scope", "crm", "--expires", "soon"), "InvalidSetting"),
        (("keys", "revoke"), "InvalidSetting"),
        (("keys", "revoke", "nobody"), "UnknownKey"),
        (("audit", "forge"), "InvalidSetting"),
        (("subject", "nobody"), "UnknownLead"),
        (("erase", "nobody"), "UnknownLead"),
        (("export", "--database-url", "mysql://x"), "InvalidSetting"),
    ],
)
def test_what_is_wrong_is_named(call, arguments, error):
    assert json.loads(call(*arguments, "--json", code=2))["error"] == error


def test_a_store_that_cannot_be_opened_is_a_missing_environment(call, folder):
    (folder / "models" / "small" / "store.db").mkdir(parents=True)
    assert json.loads(call("keys", "list", "--json", code=4))["error"] == "StoreUnavailable"


def test_a_lead_is_reported_and_then_erased_only_when_it_is_meant(call, store, folder):
    log = VectorLog(folder / "models" / "small" / FOLDER)
    log.append([ServedVector("jane", NOON, NOON, "stored", "sha256:aa", {"country": "DE"})])
    report = json.loads(call("subject", "jane"))
    assert [one["event_id"] for one in report["events"]] == ["e"]
    assert report["kept_vectors"][0]["values"] == {"country": "DE"}
    planned = json.loads(call("erase", "jane", "--json"))
    assert (planned["erased"], planned["rows"]["events"], planned["rows"]["kept_vectors"]) == (False, 1, 1)
    assert json.loads(call("subject", "jane")) == report
    assert "--yes" in call("erase", "jane")
    done = json.loads(call("erase", "jane", "--yes", "--json"))
    assert (done["erased"], done["rows"]["events"], done["rows"]["kept_vectors"]) == (True, 1, 1)
    call("subject", "jane", code=2)
    assert json.loads(call("subject", "john"))["events"]


def test_a_changed_audit_log_is_exit_3(call, store):
    call("erase", "jane", "--yes")
    head = json.loads(call("audit", "verify", "--json"))["head"]
    assert head in call("audit", "verify", "--head", head)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE audit_log SET actor = 'nobody'")
    refused = json.loads(call("audit", "verify", "--json", code=3))
    assert refused["error"] == "AuditChainBroken"
    assert "row 1" in refused["what"]


def test_the_store_is_exported_into_the_projects_tables(call, store, folder):
    document = json.loads(call("export", "--json"))
    assert document["rows"] == {"leads": 2, "events": 2}
    leads = pd.read_parquet(folder / "leads.parquet")
    assert leads["lead_id"].tolist() == ["jane", "john"]
    assert leads["country"].tolist()[0] == "DE"
    assert "events.parquet" in call("export")
