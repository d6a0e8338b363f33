"""Personal data goes where it was sent, and nowhere else: no log, metric, refusal, feature vector, model or run."""

from __future__ import annotations

import json
import logging
import re
import shutil
import time

import pytest
from serving.scopes import RULES
from serving.state import ServingState

from canary import CANARY, EMAIL, PERSONAL, files_with_canary
from predictive_scoring.data.sources import load_project, open_tables
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.subject import subject_report
from predictive_scoring.keeping.vectors import FOLDER
from predictive_scoring.live.rescoring import rescore_some
from predictive_scoring.training import train
from stored_project import copied_store

LEAD = {
    "lead_id": "C-1",
    "created_at": "2026-01-05T09:00:00Z",
    "attributes": {"country": "DE", **PERSONAL},
    "events": [
        {
            "event_id": "1",
            "event_type": "pricing_view",
            "occurred_at": "2026-02-01T10:00:00Z",
            "properties": PERSONAL,
        }
    ],
}
BATCH = [
    {"type": "identify", "messageId": "c1", "userId": "C-1", "traits": {"country": "DE", **PERSONAL}},
    {"type": "track", "messageId": "c2", "userId": "C-1", "event": "page_view", "properties": PERSONAL},
    {"type": "track", "messageId": "c3", "userId": "C-1", "event": EMAIL},
]
BAD = [
    EMAIL.encode(),
    f'{{"{EMAIL}'.encode(),
    json.dumps(EMAIL).encode(),
    json.dumps([EMAIL]).encode(),
    json.dumps({EMAIL: EMAIL}).encode(),
    json.dumps(
        {"leads": [EMAIL], "batch": [EMAIL], "lead_ids": [EMAIL], "verdict": EMAIL, "channel": [EMAIL]}
    ).encode(),
    json.dumps({"leads": [{**LEAD, "created_at": EMAIL, EMAIL: 1}], "as_of": EMAIL}).encode(),
    json.dumps(
        {"batch": [{"type": EMAIL, "messageId": [EMAIL], "userId": {"x": EMAIL}, "timestamp": EMAIL}]}
    ).encode(),
    json.dumps(
        {"verdict": "good", "occurred_at": EMAIL, "feedback_id": EMAIL * 20, "note": [EMAIL]}
    ).encode(),
    b"\xff" + EMAIL.encode(),
]
FORMATTER = logging.Formatter()
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def service(small_champion, stored_champion, tmp_path_factory, application):
    """A running service that keeps every vector; its state, and its folder of models."""
    folder = tmp_path_factory.mktemp("canary")
    models = folder / "models"
    shutil.copytree(small_champion.models, models)
    state = ServingState(
        small_champion.file,
        models,
        keep_vectors=1.0,
        database=copied_store(stored_champion, folder / "store"),
    )
    with application(state) as client:
        until = time.monotonic() + 120
        while state.serving is None:
            assert state.failure is None, state.failure
            assert time.monotonic() < until
            time.sleep(0.05)
        yield client, state, models


@pytest.fixture
def told(caplog, capfd):
    """Everything that was logged or written meanwhile."""
    caplog.set_level(logging.DEBUG)

    def text() -> str:
        written = capfd.readouterr()
        # The client of these tests is no part of the service.
        ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
        assert ours
        lines = [f"{vars(record)} {record.getMessage()} {FORMATTER.format(record)}" for record in ours]
        return "\n".join([*lines, written.out, written.err])

    return text


def test_what_is_sent_about_a_person_stays_with_the_lead(service, told):
    client, state, models = service
    kept = client.post("/v1/events", json={"batch": BATCH})
    assert kept.status_code == 200
    assert kept.json()["accepted"] >= 2
    in_body = client.post(
        "/v1/score", json={"leads": [{**LEAD, "lead_id": "C-2"}], "as_of": "2026-02-10T00:00:00Z"}
    )
    assert len(in_body.json()["scores"]) == 1
    stored = client.post("/v1/score", json={"leads": [{"lead_id": "C-1"}]})
    assert len(stored.json()["scores"]) == 1
    serving = state.ready()
    while rescore_some(serving.store, serving.scorer, int(time.time()))[0]:
        pass
    # It was kept, so it could have leaked.
    report = serving.store.read(lambda tx: subject_report(tx, "C-1"))
    assert CANARY in json.dumps(report, default=str)
    for answer in (
        in_body,
        stored,
        client.get("/v1/leads/C-1"),
        client.get("/v1/scores"),
        client.get("/v1/leads"),
    ):
        assert answer.status_code == 200
        assert CANARY not in answer.text
    for table in (
        tables.scores,
        tables.latest_scores,
        tables.outbox,
        tables.audit_log,
        tables.facts,
        tables.jobs,
    ):
        assert CANARY not in str(serving.store.read(lambda tx, table=table: tx.rows(table.select())))
    assert list((models / "sample" / FOLDER).iterdir())
    assert files_with_canary(models) == []
    assert CANARY not in client.get("/metrics").text
    assert CANARY not in told()


@pytest.mark.parametrize(("method", "template"), sorted(RULES), ids=" ".join)
def test_no_refusal_repeats_what_was_sent(service, told, method, template):
    client, _, _ = service
    path = re.sub(r"{\w+}", EMAIL, template)
    bodies = [None] if method in ("GET", "DELETE") else BAD
    query = dict.fromkeys(
        ("search", "cursor", "updated_since", "as_of", "limit", "stage", "next", "state"), EMAIL
    )
    answers = [client.request(method, path, content=body, headers=JSON) for body in bodies]
    answers += [
        client.request(method, f"{path}/{EMAIL}", params=query, content=bodies[0], headers=JSON),
        client.request(method, path, params=query, content=bodies[0], headers={**JSON, "accept": EMAIL}),
        client.request(
            method,
            path,
            content=bodies[0],
            headers={**JSON, "idempotency-key": EMAIL, "host": f"{CANARY}.example"},
        ),
        client.request(method, path, content=bodies[0], headers={**JSON, "authorization": f"Bearer {EMAIL}"}),
        client.request(method, path, content=b"x", headers={"content-type": EMAIL}),
        client.request("PUT", path, content=b"{}", headers=JSON),
    ]
    refused = [answer for answer in answers if answer.status_code >= 400]
    assert refused
    for answer in refused:
        assert CANARY not in answer.text, answer.request
        assert CANARY not in str(answer.headers), answer.request
        assert answer.status_code != 500 or template.startswith("/v1/hooks"), answer.request
    assert CANARY not in client.get("/metrics").text
    assert CANARY not in told()


def test_a_model_and_its_runs_know_nothing_of_columns_that_are_not_read(small_champion):
    leads = small_champion.loaded.data_root / small_champion.loaded.project.sources.leads.path
    assert CANARY.encode() in leads.read_bytes()
    kept_in = [path for path in files_with_canary(small_champion.folder) if path != str(leads)]
    assert kept_in == []


@pytest.mark.trial
def test_of_a_declared_personal_column_a_model_and_its_runs_know_the_kind_only(small_champion, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(small_champion.folder / "tables", folder / "tables")
    for name in ("scoring.yaml", "playbook.yaml"):
        shutil.copy(small_champion.folder / name, folder / name)
    text = (folder / "scoring.yaml").read_text("utf-8")
    declared = "{type: category, label: Kind of address, of: email, transform: email_kind, immutable: true, pii: true}"
    kind = f"  email_kind: {declared}\n"
    (folder / "scoring.yaml").write_text(text.replace("attributes:\n", f"attributes:\n{kind}", 1), "utf-8")
    loaded = load_project(folder / "scoring.yaml")
    trained = train(
        loaded,
        open_tables(loaded),
        BundleStore(folder / "models" / "sample"),
        f"sqlite:///{folder / 'mlflow.db'}",
    )
    assert "email_kind" in trained.bundle.files["features.json"]
    assert files_with_canary(folder) == [str(folder / "tables" / "leads.parquet")]
