"""Scores written back: exactly what changed, each item with its own fate."""

import csv
import io
import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from crm_servers import BROKEN, CUT, DROPPED, HALF, TOO_MANY, Fault, to_hubspot, to_salesforce
from predictive_scoring.cli.app import app
from predictive_scoring.connectors.fields import (
    BLANK,
    FIELDS,
    HUBSPOT_NAMES,
    SALESFORCE_NAMES,
    Change,
    batched,
    changes,
    field_values,
)
from predictive_scoring.connectors.hubspot_push import check_properties, push_hubspot
from predictive_scoring.connectors.salesforce_push import check_fields, jobs, push_salesforce
from predictive_scoring.connectors.salesforce_push import table as bulk_table
from predictive_scoring.connectors.written import WrittenFile
from predictive_scoring.errors import CrmRefused, CrmUnavailable, InvalidSetting
from predictive_scoring.schema import Action, ModelReference, Reason, Score

MODEL = ModelReference(name="demo", version="1", bundle="sha256:0")


def score(lead: str, points: int | None, **other) -> Score:
    scored = {"status": "scored", "probability": 0.2, "score": points, "grade": "B1", "readiness": "nurture"}
    return Score.model_validate(
        {"lead_id": lead, "as_of": "2026-05-28T00:00:00Z", "horizon_days": 30, "model": MODEL}
        | (scored if points is not None else {"status": "suppressed", "status_reason": "opted_out"})
        | {
            "reasons": (Reason(text="Viewed the pricing page 3 times", direction="raises", points=11),),
            "actions": (
                Action(
                    action_id="a", label="Send the case study", channel="email", why="-", evidence="playbook"
                ),
            ),
        }
        | other
    )


def change(lead: str) -> Change:
    return Change(lead, {**BLANK, "score": "50"}, f"mark-{lead}")


# What is written ------------------------------------------------------------------------------------------------


def test_the_four_fields():
    assert field_values(score("1", 72)) == {
        "score": "72",
        "grade": "B1",
        "reasons": "Viewed the pricing page 3 times (+11)",
        "next_action": "Send the case study",
    }
    assert field_values(score("1", 72, readiness="ready", actions=()))["next_action"] == "Hand to sales"


def test_a_lead_without_a_score_is_empty_and_never_zero():
    assert field_values(score("1", None)) == dict.fromkeys(FIELDS, "")


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.one_of(st.none(), st.integers(1, 99)))), st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_is_written_is_exactly_what_changed(tmp_path, rounds, data):
    """Whatever was written before, and in whatever parts: afterwards the CRM shows the newest score of every lead, and
    nothing was written that it showed already."""
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
    crm = {}
    while rounds:
        size = data.draw(st.integers(1, len(rounds)))
        part, rounds = rounds[:size], rounds[size:]
        written = WrittenFile(path)  # a new process each time
        for one in changes([score(*pair) for pair in part], HUBSPOT_NAMES, written):
            assert crm.get(one.lead_id, BLANK) != one.values
            crm[one.lead_id] = one.values
            written.remember({one.lead_id: one.mark})
        for lead, points in dict(part).items():
            assert crm.get(lead, BLANK) == field_values(score(lead, points))


def test_under_other_names_everything_is_written_again(tmp_path):
    written = WrittenFile(tmp_path / "w.jsonl")
    (one,) = changes([score("1", 50)], HUBSPOT_NAMES, written)
    written.remember({"1": one.mark})
    assert changes([score("1", 50)], HUBSPOT_NAMES, written) == []
    assert len(changes([score("1", 50)], {**HUBSPOT_NAMES, "score": "my_score"}, written)) == 1


def test_a_line_that_broke_off_forgets_only_itself(tmp_path):
    path = tmp_path / "w.jsonl"
    written = WrittenFile(path)
    written.remember({"1": "a", "2": "b"})
    written.remember({"3": "c"})
    os.truncate(path, path.stat().st_size - 5)
    again = WrittenFile(path)
    assert [again.last(lead) for lead in "123"] == ["a", "b", None]
    again.remember({"3": "d"})
    assert WrittenFile(path).last("3") == "d"
    os.truncate(path, path.stat().st_size - 1)  # only the end of the line is missing
    WrittenFile(path).remember({"4": "e"})
    assert [WrittenFile(path).last(lead) for lead in "34"] == ["d", "e"]


@given(st.integers(0, 350), st.integers(1, 100))
def test_batches_hold_every_item_once_in_order(items, size):
    parts = list(batched(range(items), size))
    assert [item for part in parts for item in part] == list(range(items))
    assert all(len(part) == size for part in parts[:-1])
    assert all(parts)


@given(
    st.lists(st.text(alphabet='ab ",\n\rä=', max_size=20), max_size=12),
    st.integers(120, 400),
    st.integers(1, 5),
)
@settings(max_examples=40, deadline=None)
def test_jobs_hold_every_row_once_and_fit(texts, largest, most):
    rows = [Change(str(place), {**BLANK, "reasons": text}, "") for place, text in enumerate(texts)]
    parts = list(jobs(rows, SALESFORCE_NAMES, "Id", {}, largest, most))
    assert [one for part in parts for one in part] == rows
    for part in parts:
        assert len(part) <= most
        assert len(part) == 1 or len(bulk_table(part, SALESFORCE_NAMES, "Id", {})) <= largest
        cells = list(
            csv.reader(io.StringIO(bulk_table(part, SALESFORCE_NAMES, "Id", {}).decode(), newline=""))
        )
        assert [row[3] for row in cells[1:]] == [one.values["reasons"] or "#N/A" for one in part]


# HubSpot --------------------------------------------------------------------------------------------------------


def ready(server):
    """HubSpot with the properties in place."""
    for name in HUBSPOT_NAMES.values():
        server.properties[name] = {"name": name, "type": "number" if name.endswith("score") else "string"}


def pushed(server, clock, leads, path, **options):
    with to_hubspot(server, clock) as door:
        return push_hubspot(
            door, [change(str(lead)) for lead in leads], HUBSPOT_NAMES, WrittenFile(path), **options
        )


def test_a_hundred_a_call_and_each_once(hubspot, clock, tmp_path):
    ready(hubspot)
    report = pushed(hubspot, clock, range(250), tmp_path / "w.jsonl")
    assert [len(body["inputs"]) for _, _, body in hubspot.asked] == [100, 100, 50]
    assert report.written == [str(lead) for lead in range(250)]
    assert [one["id"] for one in hubspot.writes] == report.written
    assert hubspot.writes[0]["properties"]["predictive_score"] == "50"


def test_items_that_fail_are_told_apart_tried_again_or_reported(hubspot, clock, tmp_path):
    ready(hubspot)
    hubspot.bad = {"3": "VALIDATION_ERROR", "5": "RATE_LIMITS", "7": "OBJECT_NOT_FOUND"}
    report = pushed(hubspot, clock, range(10), tmp_path / "w.jsonl")
    assert report.failed == {"3": "VALIDATION_ERROR", "5": "RATE_LIMITS", "7": "OBJECT_NOT_FOUND"}
    assert [len(body["inputs"]) for _, _, body in hubspot.asked] == [10, 1, 1]
    assert report.to_document()["reasons"] == {"VALIDATION_ERROR": 1, "RATE_LIMITS": 1, "OBJECT_NOT_FOUND": 1}
    assert "ann@acme.com" not in json.dumps(report.to_document())
    written = WrittenFile(tmp_path / "w.jsonl")
    assert {lead for lead in map(str, range(10)) if written.last(lead)} == set(report.written)
    assert len(report.written) == 7


def test_an_item_whose_error_passes_is_written(hubspot, clock, tmp_path):
    ready(hubspot)
    hubspot.bad = {"5": "INTERNAL_ERROR"}
    hubspot.on_request = lambda number: hubspot.bad.clear() if number == 2 else None
    report = pushed(hubspot, clock, range(10), tmp_path / "w.jsonl")
    assert sorted(report.written, key=int) == [str(lead) for lead in range(10)]
    assert report.failed == {}


@given(st.sets(st.integers(0, 59), max_size=6))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_batch_refused_as_a_whole_is_halved_to_the_contacts_at_fault(hubspot, clock, tmp_path, bad):
    ready(hubspot)
    hubspot.refuse_whole = {str(lead) for lead in bad}
    hubspot.asked.clear()
    hubspot.writes.clear()
    report = pushed(hubspot, clock, range(60), tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl")
    assert set(report.failed) == hubspot.refuse_whole
    assert sorted(one["id"] for one in hubspot.writes) == sorted(report.written)
    assert len(report.written) + len(report.failed) == 60
    assert len(hubspot.asked) <= 1 + 2 * 6 * max(1, len(bad))


@pytest.mark.parametrize(
    "fault", [TOO_MANY, BROKEN, HALF, CUT, DROPPED], ids=["429", "500", "half", "cut", "dropped"]
)
def test_faults_while_writing_lose_and_double_nothing(hubspot, clock, tmp_path, fault):
    ready(hubspot)
    hubspot.faults = {1: fault, 3: fault}
    report = pushed(hubspot, clock, range(150), tmp_path / "w.jsonl")
    assert report.written == [str(lead) for lead in range(150)]
    # Twice the same is the same: what HubSpot shows is one value for each.
    assert {one["id"] for one in hubspot.writes} == set(report.written)


def test_a_push_that_breaks_off_goes_on_with_the_rest(hubspot, clock, tmp_path):
    ready(hubspot)
    hubspot.faults = {2: Fault(403)}
    scores = [score(str(lead), 50) for lead in range(250)]
    path = tmp_path / "w.jsonl"
    with to_hubspot(hubspot, clock) as door, pytest.raises(CrmRefused):
        push_hubspot(
            door, changes(scores, HUBSPOT_NAMES, WrittenFile(path)), HUBSPOT_NAMES, WrittenFile(path)
        )
    rest = changes(scores, HUBSPOT_NAMES, WrittenFile(path))
    assert [one.lead_id for one in rest] == [str(lead) for lead in range(100, 250)]


def test_upsert_by_a_unique_property(hubspot, clock, tmp_path):
    ready(hubspot)
    hubspot.bad = {"L-2": "VALIDATION_ERROR"}
    report = pushed(hubspot, clock, ["L-1", "L-2", "L-3"], tmp_path / "w.jsonl", key="lead_key")
    assert hubspot.asked[0][1].endswith("/batch/upsert")
    assert {one["idProperty"] for one in hubspot.writes} == {"lead_key"}
    assert (report.written, set(report.failed)) == (["L-1", "L-3"], {"L-2"})


def test_missing_properties_are_named_or_created(hubspot, clock):
    hubspot.properties["predictive_grade"] = {"name": "predictive_grade", "type": "number"}
    with to_hubspot(hubspot, clock) as door:
        with pytest.raises(InvalidSetting, match="another type: predictive_grade"):
            check_properties(door, HUBSPOT_NAMES, create=True)
        del hubspot.properties["predictive_grade"]
        with pytest.raises(InvalidSetting, match="predictive_score, predictive_grade") as refused:
            check_properties(door, HUBSPOT_NAMES, create=False)
        assert "--create-fields" in refused.value.remedy
        assert check_properties(door, HUBSPOT_NAMES, create=True) == list(HUBSPOT_NAMES.values())
        assert check_properties(door, HUBSPOT_NAMES, create=True) == []


# Salesforce -----------------------------------------------------------------------------------------------------


def described(server, **fields):
    server.fields["Lead"] = {
        name: {"type": "string", "updateable": True, "length": 255} for name in SALESFORCE_NAMES.values()
    } | fields


def pushed_salesforce(server, clock, leads, path, **options):
    rows = [change(str(lead)) for lead in leads]
    with to_salesforce(server, clock) as door:
        return push_salesforce(door, rows, SALESFORCE_NAMES, WrittenFile(path), **options)


def test_one_job_from_creation_to_results(salesforce, clock, tmp_path):
    salesforce.bad = {"00Q3": "REQUIRED_FIELD_MISSING"}
    report = pushed_salesforce(salesforce, clock, [f"00Q{n}" for n in range(6)], tmp_path / "w.jsonl")
    (job,) = salesforce.jobs.values()
    assert (job["operation"], job["externalIdFieldName"], job["lineEnding"]) == ("upsert", "Id", "LF")
    assert job["content"].decode().splitlines()[0] == ",".join(
        f'"{name}"' for name in ("Id", *SALESFORCE_NAMES.values())
    )
    assert report.failed == {"00Q3": "REQUIRED_FIELD_MISSING"}
    assert report.written == ["00Q0", "00Q1", "00Q2", "00Q4", "00Q5"]
    assert salesforce.updates[0]["Predictive_Reasons__c"] == "#N/A"
    assert "ann@acme.com" not in json.dumps(report.to_document())
    assert clock.slept == [1.0]


def test_rows_that_were_locked_or_not_reached_come_again(salesforce, clock, tmp_path):
    leads = [f"00Q{n}" for n in range(6)]
    salesforce.locked_once, salesforce.unprocessed_once = {"00Q1"}, {"00Q4"}
    report = pushed_salesforce(salesforce, clock, leads, tmp_path / "w.jsonl", key="Key__c")
    assert sorted(report.written) == leads
    assert report.failed == {}
    assert len(salesforce.jobs) == 2
    assert sorted(row["Key__c"] for row in salesforce.updates) == leads


@pytest.mark.parametrize("at", range(1, 9))
@pytest.mark.parametrize("fault", [BROKEN, DROPPED, CUT], ids=["500", "dropped", "cut"])
def test_faults_during_a_job_lose_and_double_nothing(salesforce, clock, tmp_path, at, fault):
    leads = [f"00Q{n}" for n in range(4)]
    salesforce.faults = {at: fault}
    report = pushed_salesforce(salesforce, clock, leads, tmp_path / "w.jsonl")
    assert report.written == leads
    assert [row["Id"] for row in salesforce.updates] == leads


def test_a_job_that_never_ends_meets_the_deadline(salesforce, clock, tmp_path):
    salesforce.polls = 10**6
    with pytest.raises(CrmUnavailable, match="time given"):
        pushed_salesforce(salesforce, clock, ["00Q1"], tmp_path / "w.jsonl")
    assert 7000 < sum(clock.slept) <= 7200
    assert WrittenFile(tmp_path / "w.jsonl").last("00Q1") is None


def test_fields_that_are_missing_closed_or_no_key_are_named(salesforce, clock):
    with to_salesforce(salesforce, clock) as door:
        with pytest.raises(InvalidSetting, match=r"Predictive_Score__c.*Number") as refused:
            check_fields(door, SALESFORCE_NAMES, "Id")
        assert "Predictive_Reasons__c as a Long Text Area" in refused.value.remedy
        described(salesforce, Predictive_Grade__c={"type": "string", "updateable": False})
        with pytest.raises(InvalidSetting, match="may not write Predictive_Grade__c"):
            check_fields(door, SALESFORCE_NAMES, "Id")
        described(salesforce, Key__c={"type": "string", "externalId": True})
        with pytest.raises(InvalidSetting, match="no external id"):
            check_fields(door, SALESFORCE_NAMES, "Email")
        assert check_fields(door, SALESFORCE_NAMES, "Key__c")["grade"] == 255


def test_texts_are_cut_to_their_field():
    one = Change("1", {**BLANK, "reasons": "x" * 300}, "")
    cells = bulk_table([one], SALESFORCE_NAMES, "Id", {"reasons": 255}).decode().splitlines()[1].split(",")
    assert cells == ['"1"', '"#N/A"', '"#N/A"', '"' + "x" * 255 + '"', '"#N/A"']


# The verb -------------------------------------------------------------------------------------------------------


def call(monkeypatch, server, system, *arguments):
    monkeypatch.setenv("PREDICTIVE_SCORING_HUBSPOT_URL", server.base)
    monkeypatch.setenv("PREDICTIVE_SCORING_HUBSPOT_TOKEN", server.token)
    monkeypatch.setenv("PREDICTIVE_SCORING_SALESFORCE_URL", server.base)
    monkeypatch.setenv("PREDICTIVE_SCORING_SALESFORCE_CLIENT_ID", "id")
    monkeypatch.setenv("PREDICTIVE_SCORING_SALESFORCE_CLIENT_SECRET", "hidden")
    answer = CliRunner().invoke(app, ["connect", system, *map(str, arguments), "--json"])
    return answer.exit_code, json.loads(answer.stdout)


def test_connect_push_writes_once_and_says_what(hubspot, tmp_path, monkeypatch):
    file = tmp_path / "scores.jsonl"
    file.write_text("".join(score(str(n), 40 + n).model_dump_json() + "\n" for n in range(5)))
    options = ("push", "--scores", file, "--tables", tmp_path / "tables")
    code, said = call(monkeypatch, hubspot, "hubspot", *options, "--dry-run")
    assert (code, said["changed"], said["written"], hubspot.asked) == (0, 5, 0, [])
    code, said = call(monkeypatch, hubspot, "hubspot", *options)
    assert (code, said["error"]) == (2, "InvalidSetting")
    code, said = call(monkeypatch, hubspot, "hubspot", *options, "--create-fields")
    assert (code, said["written"], said["failed"]) == (0, 5, 0)
    hubspot.asked.clear()
    code, said = call(monkeypatch, hubspot, "hubspot", *options)
    assert (code, said["changed"], said["unchanged"], hubspot.asked) == (0, 0, 5, [])
    hubspot.bad = {"2": "OBJECT_NOT_FOUND"}
    file.write_text("".join(score(str(n), 60).model_dump_json() + "\n" for n in (2, 3)))
    code, said = call(monkeypatch, hubspot, "hubspot", *options)
    assert (code, said["written"], said["failed_leads"]) == (2, 1, {"2": "OBJECT_NOT_FOUND"})


def test_connect_push_to_salesforce(salesforce, tmp_path, monkeypatch):
    described(salesforce)
    salesforce.polls = 0
    file = tmp_path / "scores.jsonl"
    file.write_text(score("00Q1", 77).model_dump_json() + "\n")
    code, said = call(
        monkeypatch, salesforce, "salesforce", "push", "--scores", file, "--tables", tmp_path / "t"
    )
    assert (code, said["written"]) == (0, 1)
    assert salesforce.updates[0]["Predictive_Score__c"] == "77"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("hubspot", "sideways"), "InvalidSetting"),
        (("pipedrive", "pull"), "InvalidSetting"),
        (("hubspot", "pull", "--since", "yesterday"), "InvalidSetting"),
        (("hubspot", "push", "--scores", "none.jsonl"), "UnreadableFile"),
        (("hubspot", "pull", "--deadline", "soon"), "InvalidSetting"),
    ],
)
def test_connect_refuses_by_name(hubspot, tmp_path, monkeypatch, arguments, name):
    monkeypatch.chdir(tmp_path)
    code, said = call(monkeypatch, hubspot, *arguments)
    assert (code, said["error"]) == (2, name)


def test_a_file_that_holds_no_scores(hubspot, tmp_path, monkeypatch):
    (tmp_path / "s.jsonl").write_text('{"lead_id": "ann@acme.com"}\n')
    code, said = call(monkeypatch, hubspot, "hubspot", "push", "--scores", tmp_path / "s.jsonl")
    assert (code, said["error"]) == (2, "InvalidDocument")
    assert "ann@acme.com" not in json.dumps(said)


def test_connect_pull_writes_tables_and_a_first_project(hubspot, tmp_path, monkeypatch):
    from crm_servers import small_hubspot

    small_hubspot(hubspot, 90)
    project = tmp_path / "scoring.yaml"
    code, said = call(monkeypatch, hubspot, "hubspot", "pull", "--project", project)
    assert (code, said["rows"]["contact"], said["project"]) == (0, 90, str(project))
    assert (tmp_path / "tables" / "hubspot" / "contact.parquet").exists()
    before = project.read_text()
    code, _ = call(monkeypatch, hubspot, "hubspot", "pull", "--project", project)
    assert (code, project.read_text()) == (0, before)
