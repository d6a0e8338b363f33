"""Erasure: after it nothing of the lead is left, and nothing brings it back."""

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from predictive_scoring.errors import UnknownLead
from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.activity import Consent, Feedback, Outcome, TouchMade, record
from predictive_scoring.keeping.store.audit import entries, verify
from predictive_scoring.keeping.store.erasure import erase_lead
from predictive_scoring.keeping.store.forgetting import forget_vectors
from predictive_scoring.keeping.store.histories import read_lead
from predictive_scoring.keeping.store.idempotency import Answer, once
from predictive_scoring.keeping.store.jobs import create_job, next_leads
from predictive_scoring.keeping.store.messages import Message
from predictive_scoring.keeping.store.outbox import Outgoing, post
from predictive_scoring.keeping.store.scores import Scored, append_scores
from predictive_scoring.keeping.store.subject import subject_report
from predictive_scoring.keeping.vectors import ServedVector, TornLine, VectorLog
from predictive_scoring.schema import ModelReference, Score
from predictive_scoring.timeline import format_instant
from store_messages import NOON, event, identify, ingested

CANARY = "kanarienvogel"
"""Stands in every id and value of the lead that is erased."""
LEAD, OTHER = f"jane@{CANARY}.example", "john@plain.example"


def score(lead_id):
    model = ModelReference(name="small", version="1", bundle="sha256:aa")
    return Score(lead_id=lead_id, as_of=format_instant(NOON), status="scored", horizon_days=30, model=model)


def fill(store, log):
    """Two leads, in every table that knows leads, and in the kept vectors."""
    for lead_id, mark in ((LEAD, CANARY), (OTHER, "plain")):
        ingested(
            store,
            event(f"v-{mark}", None, anonymous_id=f"browser-{mark}"),
            identify(f"i-{mark}", lead_id, name=f"Jane {mark}"),
            identify(f"again-{mark}", lead_id, 3, name=f"Jane {mark}"),
            event(f"e-{mark}", lead_id, 5, anonymous_id=f"browser-{mark}", properties={"page": mark}),
        )
        ingested(store, Message(f"a-{mark}", NOON, NOON + 9, lead_id, previous_id=f"former-{mark}"))
        told = [
            TouchMade(f"t-{mark}", lead_id, "case_study", "email", NOON, NOON),
            Consent(lead_id, "email", True, NOON, NOON),
            Feedback(f"f-{mark}", lead_id, "good", NOON, "key-1", note=f"Spoke to {mark}"),
            Outcome(f"o-{mark}", lead_id, "won", NOON, NOON, 120_000, "EUR"),
        ]

        def work(tx, lead_id=lead_id, mark=mark, told=told):
            record(tx, told, NOON)
            append_scores(tx, [Scored(score(lead_id), {"name": mark})], NOON)
            create_job(tx, "score", {"keep": True}, now=NOON, actor="key-1", lead_ids=[lead_id])
            post(tx, [Outgoing("crm", "score.changed", json.dumps({"lead": lead_id}), lead_id)], NOON)
            answer = Answer(202, json.dumps({"changed": [lead_id]}), (lead_id,))
            once(tx, caller="c", key=f"k-{len(mark)}", request_hash="h", now=NOON, work=lambda: answer)

        store.write(work)
        log.append([ServedVector(lead_id, NOON, NOON, "stored", "sha256:aa", {"name": mark})])


def tables_with(store, text):
    return {
        table.name
        for table in tables.metadata.tables.values()
        if any(text in str(tuple(row)) for row in store.read(lambda tx, t=table: tx.rows(select(t))))
    }


@pytest.fixture
def log(tmp_path):
    return VectorLog(tmp_path / "served")


def test_nothing_of_the_lead_is_left_and_its_neighbour_keeps_everything(store, log, tmp_path):
    fill(store, log)
    of_a_lead = {table.name for table in tables.OF_A_LEAD}
    assert tables_with(store, CANARY) == of_a_lead | {"idempotency"}, "the test knows every table of a lead"
    before = {name: count for name, count in counts(store).items() if name != "tombstones"}

    erased = erase_lead(store, LEAD, now=NOON + 60, actor="key-9", vectors=[log])

    assert tables_with(store, CANARY) == set()
    assert tables_with(store, "plain") == of_a_lead | {"idempotency"}
    assert all(erased.rows[name] >= 1 for name in of_a_lead | {"idempotency"}), erased
    assert erased.vectors == 1
    after = counts(store)
    for name, number in erased.rows.items():
        assert before[name] - after[name] == number, name
    assert [line.lead_id for line in log.read() if not isinstance(line, TornLine)] == [OTHER]
    if store.is_sqlite:
        # Neither in a free page nor in the log beside it.
        for file in Path(store.engine.url.database).parent.glob("store.db*"):
            assert CANARY.encode() not in file.read_bytes(), file.name
    note = store.read(lambda tx: list(entries(tx)))[-1]
    assert (note.action, note.actor, json.loads(note.details)["rows"]) == (
        "lead_erased",
        "key-9",
        sum(erased.rows.values()),
    )
    assert store.read(verify).is_whole


def counts(store):
    return {
        table.name: len(store.read(lambda tx, t=table: tx.rows(select(t))))
        for table in tables.metadata.tables.values()
    }


def test_late_messages_do_not_bring_it_back_by_any_of_its_ids(store, log):
    fill(store, log)
    erase_lead(store, LEAD, now=NOON + 60, actor="cli")
    late = [
        event("late-1", LEAD),
        identify("late-2", LEAD, name="Jane"),
        event("late-3", None, anonymous_id=f"browser-{CANARY}"),
        event("late-4", f"former-{CANARY}"),
        Message("late-5", NOON, NOON, LEAD, previous_id="another"),
    ]
    assert ingested(store, *late, event("fine", OTHER)) == ["erased"] * 5 + ["accepted"]
    with pytest.raises(UnknownLead):
        store.read(lambda tx: read_lead(tx, LEAD))
    with pytest.raises(UnknownLead):
        store.write(lambda tx: record(tx, [Consent(LEAD, "email", True, NOON, NOON)], NOON))
    assert store.write(lambda tx: append_scores(tx, [Scored(score(LEAD))], NOON)) == (LEAD,)
    assert tables_with(store, CANARY) == set()


def test_the_browser_of_an_erased_lead_says_nothing_about_the_next_one(store, log):
    fill(store, log)
    erase_lead(store, LEAD, now=NOON + 60, actor="cli")
    assert ingested(store, event("n1", "new", anonymous_id=f"browser-{CANARY}")) == ["accepted"]
    assert len(store.read(lambda tx: read_lead(tx, "new")).events) == 1
    assert tables_with(store, CANARY) == set()


def test_a_lead_may_be_erased_by_any_of_its_ids_again_and_before_it_comes(store, log):
    fill(store, log)
    assert erase_lead(store, f"former-{CANARY}", now=NOON, actor="cli", vectors=[log]).vectors == 1
    assert tables_with(store, CANARY) == set()
    assert erase_lead(store, LEAD, now=NOON, actor="cli", vectors=[log]).total == 0
    assert erase_lead(store, "never seen", now=NOON, actor="cli").total == 0
    assert ingested(store, event("x", "never seen")) == ["erased"]


def test_a_job_goes_on_without_the_lead(store):
    ingested(store, *(event(f"e{n}", f"L-{n}") for n in range(4)))
    job = store.write(lambda tx: create_job(tx, "score", {}, now=NOON, actor="c"))
    erase_lead(store, "L-1", now=NOON, actor="cli")
    assert [lead for _, lead in store.read(lambda tx: next_leads(tx, job, 10))] == ["L-0", "L-2", "L-3"]


# Kept vectors -------------------------------------------------------------------------------------------------


def test_only_the_leads_own_lines_are_blanked_and_the_file_stays_as_long_as_it_was(log):
    leads = ["a", "ab", 'a"', "a", "b", "ä"]
    log.append([ServedVector(one, NOON, NOON, "body", "sha256:aa", {"v": "a"}) for one in leads])
    (file,) = log.files()
    size = file.stat().st_size
    assert forget_vectors(log, ["a"]) == 2
    assert file.stat().st_size == size
    assert [line.lead_id for line in log.read()] == ["ab", 'a"', "b", "ä"]
    assert forget_vectors(log, ["a"]) == 0
    assert forget_vectors(log, ["ä", 'a"']) == 2
    log.append([ServedVector("c", NOON, NOON, "body", "sha256:aa", {})])
    assert [line.lead_id for line in log.read()] == ["ab", "b", "c"]


def test_a_torn_line_that_may_be_the_leads_is_blanked_too(log):
    log.append([ServedVector("jane", NOON, NOON, "body", "sha256:aa", {})])
    (file,) = log.files()
    with file.open("ab") as stream:
        stream.write(b'{"lead_id":"jan')
    assert forget_vectors(log, ["jane"]) == 2
    assert b"jan" not in file.read_bytes()
    log.append([ServedVector("c", NOON, NOON, "body", "sha256:aa", {})])
    assert [line.lead_id for line in log.read()] == ["c"]


# The subject report -------------------------------------------------------------------------------------------


def test_the_subject_report_tells_everything_about_one_lead_and_nothing_about_another(store, log):
    fill(store, log)
    report = store.read(lambda tx: subject_report(tx, f"former-{CANARY}", [log]))
    text = json.dumps(report)
    assert "plain" not in text
    assert OTHER not in text
    assert report["lead_id"] == LEAD
    assert set(report["ids"]) == {LEAD, f"former-{CANARY}", f"anonymous:browser-{CANARY}"}
    for table in tables.OF_A_LEAD:
        assert report[table.name] if table is not tables.idempotency_leads else report["kept_answers"], (
            table.name
        )
    assert report["events"][0]["occurred"] == format_instant(NOON)
    assert report["leads"][0]["attributes"] == {"name": f"Jane {CANARY}"}
    assert report["kept_vectors"][0]["values"] == {"name": CANARY}
    assert report["feedback"][0]["note"] == f"Spoke to {CANARY}"


def test_nothing_is_reported_about_nobody(store, log):
    fill(store, log)
    with pytest.raises(UnknownLead):
        store.read(lambda tx: subject_report(tx, "nobody", [log]))
    erase_lead(store, LEAD, now=NOON, actor="cli", vectors=[log])
    with pytest.raises(UnknownLead):
        store.read(lambda tx: subject_report(tx, LEAD, [log]))
