"""`POST /v1/score`: the same score as everywhere, errors beside the lead, problems for the whole request."""

from __future__ import annotations

import copy
import json
import math
import time

import pytest

from predictive_scoring.keeping.store.histories import read_lead, read_leads
from predictive_scoring.timeline import format_instant, parse_instant
from stored_project import listed, stored_until

SECRET = "jane.doe@example.com"
LEAD = {
    "lead_id": "bar-1",
    "created_at": "2026-01-05T09:00:00Z",
    "attributes": {},
    "events": [{"event_id": "1", "event_type": "pricing_view", "occurred_at": "2026-02-01T10:00:00Z"}],
}
BODY = {"leads": [LEAD], "as_of": "2026-02-10T00:00:00Z"}


def changed(**changes):
    return {**copy.deepcopy(LEAD), **changes}


def post(client, body, kind="application/json"):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/v1/score", content=content, headers={"content-type": kind})


def scored(client, *leads, as_of=BODY["as_of"]):
    answer = post(client, {"leads": list(leads), "as_of": as_of})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_same_lead_gets_the_same_answer_twice(client):
    first, second = post(client, BODY), post(client, BODY)
    assert first.status_code == 200
    assert first.content == second.content


def test_the_answer_is_a_whole_score_document_that_adds_up(client):
    (score,) = scored(client, LEAD)["scores"]
    explanation = score["explanation"]
    output = explanation["base"] + math.fsum(row["contribution"] for row in explanation["rows"])
    logit = math.log(score["probability"] / (1 - score["probability"]))
    assert abs(output - explanation["output"]) <= 1e-9
    assert abs(output - logit) <= 1e-9
    assert score["interval"][0] <= score["probability"] <= score["interval"][1]
    assert score["status"] == "scored"
    assert score["reasons"]


def test_a_stored_lead_scores_as_in_batch_whichever_way_it_is_asked_for(client, serving, small_champion):
    tables = small_champion.tables
    batch = {score.lead_id: score for score in serving.scorer.score_tables(tables, tables.observed_until)}
    wanted = [row.lead_id for row in listed(serving) if row.status == "scored"][::25]
    by_id = scored(client, *({"lead_id": lead_id} for lead_id in wanted), as_of=None)["scores"]
    assert [score["lead_id"] for score in by_id] == wanted
    for score in by_id:
        stored = client.get(f"/v1/leads/{score['lead_id']}").json()
        expected = batch[score["lead_id"]]
        assert abs(stored["probability"] - expected.probability) <= 1e-12
        assert abs(score["probability"] - expected.probability) <= 1e-12
        for part in ("score", "grade", "readiness", "stage", "trend", "actions", "as_of", "percentile"):
            assert score[part] == stored[part], part


def test_leads_of_the_store_are_those_of_the_tables(serving, small_champion):
    leads = small_champion.tables.leads
    # Missing cells among them: a missing consent must stay missing.
    gaps = leads.loc[leads.isna().any(axis=1), "lead_id"]
    wanted = [*gaps[:10], *leads["lead_id"][:20], "nobody"]
    project = serving.scorer.scoring.project
    together = serving.store.read(lambda tx: read_leads(tx, wanted, project))
    assert len(together) >= 15
    for lead_id, lead in together.items():
        alone = small_champion.tables.lead(lead_id)
        assert sorted(lead.events, key=lambda event: event.event_id) == sorted(
            alone.events, key=lambda event: event.event_id
        )
        assert (lead.created, lead.attributes, lead.touches) == (
            alone.created,
            alone.attributes,
            alone.touches,
        )
        assert sorted(lead.changes, key=str) == sorted(alone.changes, key=str)
        assert lead.changes
        assert all(value is None or value == value for value in lead.attributes.values())


def test_a_stored_lead_sent_with_its_history_scores_the_same(client, serving):
    lead_id = next(row.lead_id for row in listed(serving) if row.readiness == "nurture" and row.top_reason)
    project = serving.scorer.scoring.project
    lead = serving.store.read(lambda tx: read_lead(tx, lead_id, project))
    sent = {
        "lead_id": "sent",
        "created_at": format_instant(lead.created),
        "attributes": {
            key: getattr(value, "item", lambda v=value: v)() for key, value in lead.attributes.items()
        },
        "attribute_changes": [
            {
                "attribute": change.attribute,
                "value": float(change.value) if change.attribute == "company_size" else change.value,
                "occurred_at": format_instant(change.occurred),
                "known_at": format_instant(change.known),
            }
            for change in lead.changes
        ],
        "events": [
            {
                "event_id": event.event_id,
                "event_type": event.event_type,
                "occurred_at": format_instant(event.occurred),
                "known_at": format_instant(event.known),
                "properties": dict(event.properties),
            }
            for event in lead.events
        ],
        "touches": [
            {
                "touch_id": touch.touch_id,
                "action_id": touch.action_id,
                "channel": touch.channel,
                "occurred_at": format_instant(touch.occurred),
            }
            for touch in lead.touches
        ],
    }
    answer = scored(client, sent, as_of=format_instant(stored_until(serving)))
    assert answer["errors"] == []
    stored = client.get(f"/v1/leads/{lead_id}").json()
    for part in ("probability", "score", "stage", "trend", "explanation", "reasons", "actions"):
        assert answer["scores"][0][part] == stored[part], part


def test_without_as_of_a_lead_in_the_body_is_scored_now(client):
    (score,) = post(client, {"leads": [LEAD]}).json()["scores"]
    assert abs(parse_instant(score["as_of"]) - time.time()) < 60


def test_nothing_at_or_after_as_of_is_read(client):
    late = [
        {"event_id": "2", "event_type": "demo_request", "occurred_at": "2026-02-10T00:00:00Z"},
        {
            "event_id": "3",
            "event_type": "demo_request",
            "occurred_at": "2026-02-09T00:00:00Z",
            "known_at": BODY["as_of"],
        },
    ]
    before, after = (
        scored(client, changed(events=[*LEAD["events"], *more]))["scores"][0] for more in ([], late)
    )
    assert before == after


BAD_LEADS = {
    "naive creation": (changed(created_at="2026-01-05T09:00:00"), "NaiveTimestamp", "created_at"),
    "no time": (changed(created_at=SECRET), "InvalidValue", "created_at"),
    "year 1": (changed(created_at="0001-01-01T00:00:00+23:59"), "InvalidValue", "created_at"),
    "creation missing": ({"lead_id": "x", "events": []}, "InvalidValue", "leads[1]"),
    "creation null": ({"lead_id": "x", "created_at": None}, "InvalidValue", "leads[1]"),
    "naive event": (
        changed(events=[{"event_id": "1", "event_type": "call", "occurred_at": "2026-01-05T09:00:00"}]),
        "NaiveTimestamp",
        "leads[1].events[0].occurred_at",
    ),
    "event id twice": (changed(events=LEAD["events"] * 2), "DuplicateKey", "leads[1].events[1].event_id"),
    "number as text": (
        changed(attributes={"company_size": SECRET}),
        "InvalidValue",
        "attributes.company_size",
    ),
    "number as flag": (changed(attributes={"company_size": True}), "InvalidValue", "attributes.company_size"),
    "category as fraction": (changed(attributes={"title": 1.5}), "InvalidValue", "attributes.title"),
    "attribute as list": (changed(attributes={"title": [SECRET]}), "InvalidValue", "attributes.title"),
    "consent as text": (
        changed(attributes={"consent_email": "no"}),
        "InvalidValue",
        "attributes.consent_email",
    ),
    "unknown key": (changed(e_mail=SECRET), "InvalidValue", "leads[1].e_mail"),
    "key that tells": (changed(**{SECRET: 1}), "InvalidValue", "leads[1].(another name)"),
    "no id": ({"created_at": LEAD["created_at"]}, "InvalidValue", "leads[1].lead_id"),
    "number as id": (changed(lead_id=5), "InvalidValue", "leads[1].lead_id"),
    "empty id": (changed(lead_id=""), "InvalidValue", "leads[1].lead_id"),
    "long id": (changed(lead_id="x" * 201), "InvalidValue", "leads[1].lead_id"),
    "no object": (SECRET, "InvalidValue", "leads[1]"),
    "null": (None, "InvalidValue", "leads[1]"),
    "too many events": (
        changed(
            events=[
                {"event_id": str(number), "event_type": "call", "occurred_at": "2026-01-05T09:00:00Z"}
                for number in range(10_001)
            ]
        ),
        "InvalidValue",
        "leads[1].events",
    ),
    "unknown stored lead": ({"lead_id": "nobody"}, "UnknownLead", "leads[1].lead_id"),
    "the same lead twice": (changed(lead_id="first"), "DuplicateKey", "leads[1]"),
}


@pytest.mark.parametrize(("bad", "code", "where"), BAD_LEADS.values(), ids=BAD_LEADS.keys())
def test_a_bad_lead_is_told_beside_its_neighbours_scores(client, bad, code, where):
    answer = scored(client, changed(lead_id="first"), bad, changed(lead_id="last"))
    assert [score["lead_id"] for score in answer["scores"]] == ["first", "last"]
    (error,) = answer["errors"]
    assert (error["index"], error["code"]) == (1, code)
    assert error["where"].endswith(where)
    assert error["remedy"]
    assert SECRET not in json.dumps(answer)


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_a_number_beyond_all_bounds_is_an_error_of_its_lead(client, number):
    body = json.dumps({"leads": [changed(attributes={"company_size": "@"})]}).replace('"@"', number)
    answer = post(client, body.encode())
    assert answer.status_code == 200
    assert answer.json()["errors"][0]["code"] == "InvalidValue"


def test_what_the_project_does_not_declare_is_not_read_and_told(client):
    plain = scored(client, LEAD)
    events = [{**LEAD["events"][0], "properties": {"browser": "x", "topic": "roi"}}]
    odd = changed(
        attributes={"shoe_size": 43},
        events=[
            *events,
            {"event_id": "2", "event_type": "lead_created", "occurred_at": "2026-02-02T10:00:00Z"},
            {"event_id": "3", "event_type": "moon_landing", "occurred_at": "2025-12-31T10:00:00Z"},
        ],
    )
    answer = scored(client, odd)
    assert answer["scores"][0]["probability"] == plain["scores"][0]["probability"]
    told = {warning["code"]: warning for warning in answer["warnings"]}
    assert set(told) == {"Ignored", "EventBeforeCreation"}
    ignored = " ".join(warning["what"] for warning in answer["warnings"])
    for name in ("shoe_size", "lead_created", "moon_landing", "browser"):
        assert name in ignored
    assert plain["warnings"] == []


def test_suppressed_and_unborn_leads_have_a_reason_and_no_number(client):
    out, unborn = scored(
        client,
        changed(attributes={"opted_out": True}),
        changed(lead_id="later", created_at="2026-03-01T00:00:00Z", events=[]),
    )["scores"]
    assert (out["status"], out["status_reason"]) == ("suppressed", "opted_out")
    assert (unborn["status"], unborn["status_reason"]) == ("not_scored", "not_yet_created")
    for score in (out, unborn):
        assert score["score"] is None
        assert score["probability"] is None
        assert score["actions"] == []


BAD_BODIES = {
    "cut off": (b"{", 400),
    "empty": (b"", 400),
    "NaN": (b'{"leads": [{"lead_id": NaN}]}', 400),
    "Infinity": (b'{"leads": [{"lead_id": "a", "attributes": {"company_size": -Infinity}}]}', 400),
    "not UTF-8": (b'{"leads": "\xff"}', 400),
    "half a surrogate": (b'{"leads": [{"lead_id": "\\ud800"}]}', 400),
    "nested deeply": (b'{"leads": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
    "endless number": (b'{"leads": ' + b"9" * 100_000 + b"}", 400),
    "list": (b"[]", 422),
    "number": (b"7", 422),
    "leads as text": (b'{"leads":"x"}', 422),
    "leads as object": (b'{"leads":{}}', 422),
    "no leads": (b'{"leads":[]}', 422),
    "leads missing": (b"{}", 422),
    "unknown key": (b'{"leads":[{"lead_id":"a"}],"asof":"x"}', 422),
    "naive as_of": (b'{"leads":[{"lead_id":"a"}],"as_of":"2026-01-01T00:00:00"}', 422),
    "as_of as number": (b'{"leads":[{"lead_id":"a"}],"as_of":1}', 422),
    "as_of no time": (b'{"leads":[{"lead_id":"a"}],"as_of":"jane.doe@example.com"}', 422),
    "as_of far off": (b'{"leads":[{"lead_id":"a"}],"as_of":"9999-12-31T00:00:00Z"}', 422),
    "too many leads": (json.dumps({"leads": [{"lead_id": str(n)} for n in range(1001)]}).encode(), 422),
    "too large": (b'{"leads": "' + b"x" * 5_000_000 + b'"}', 413),
}


@pytest.mark.parametrize(("body", "status"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_bad_body_is_refused_with_a_problem(client, body, status):
    answer = post(client, body)
    assert answer.status_code == status
    assert_problem(answer)
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "",
        "application/json; charset=utf-16",
    ],
)
def test_only_json_is_taken(client, kind):
    answer = post(client, BODY, kind)
    assert answer.status_code == 415
    assert_problem(answer)


def test_a_compressed_body_is_refused(client):
    answer = client.post(
        "/v1/score", content=b"x", headers={"content-type": "application/json", "content-encoding": "gzip"}
    )
    assert answer.status_code == 415


def test_a_thousand_leads_in_one_request(client):
    answer = scored(client, *(changed(lead_id=str(number)) for number in range(1000)))
    assert [score["lead_id"] for score in answer["scores"]] == [str(number) for number in range(1000)]


def test_leads_that_fail_inside_cost_only_themselves(client, serving, monkeypatch):
    honest = type(serving.scorer).score_many

    def failing(self, leads, as_of, served=None, previous=None):
        if any(lead.lead_id == "broken" for lead in leads):
            raise ValueError("made up")
        return honest(self, leads, as_of, served)

    monkeypatch.setattr(type(serving.scorer), "score_many", failing)
    answer = scored(client, LEAD, changed(lead_id="broken"), changed(lead_id="last"))
    assert [score["lead_id"] for score in answer["scores"]] == ["bar-1", "last"]
    assert [error["code"] for error in answer["errors"]] == ["ScoringFailed"]


def assert_problem(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    assert all(document[key] for key in ("type", "title", "detail", "name"))
