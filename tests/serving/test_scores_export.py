"""`GET /v1/scores`: nothing is missed from cursor to cursor, and every form says the same."""

from __future__ import annotations

import csv
import io
import json
import time

import pytest
from serving.routes.scores import COLUMNS

from predictive_scoring.keeping.store.ingestion import ingest
from predictive_scoring.keeping.store.messages import Message
from predictive_scoring.keeping.store.scores import Scored, append_scores
from predictive_scoring.schema import Score
from predictive_scoring.timeline import format_instant

NDJSON, CSV = {"accept": "application/x-ndjson"}, {"accept": "text/csv"}


def pages(api, cursor=None, **query):
    """Every score from a cursor on, page by page, and the last cursor."""
    found = []
    while True:
        asked = {**query, **({} if cursor is None else {"cursor": cursor})}
        page = api.get("/v1/scores", params=asked).json()
        found += page["scores"]
        cursor = page["cursor"]
        if not page["more"]:
            return found, cursor


@pytest.fixture
def keep(api, api_store):
    """Keep one more score of a lead."""

    def keep(lead_id, probability, as_of=None, **more):
        now = int(time.time())
        api_store.write(
            lambda tx: ingest(tx, [Message(f"{lead_id}!", now, now, lead_id, traits={"title": "x"})])
        )
        model = api.get("/readyz").json()["model"]
        score = Score(
            lead_id=lead_id,
            as_of=format_instant(now if as_of is None else as_of),
            status="scored",
            probability=probability,
            score=50,
            horizon_days=30,
            model=model,
            **more,
        )
        api_store.write(lambda tx: append_scores(tx, [Scored(score)], now))

    return keep


def test_pages_hold_every_leads_latest_score_once_and_then_only_what_is_new(api, keep):
    keep("X-pages", 0.1)
    found, cursor = pages(api, limit=250)
    ids = [score["lead_id"] for score in found]
    assert len(ids) == len(set(ids)) >= 601
    assert pages(api, cursor)[0] == []
    keep("X-pages", 0.2)
    keep("X-other", 0.3)
    fresh, later = pages(api, cursor, limit=1)
    assert [(one["lead_id"], one["probability"]) for one in fresh] == [("X-pages", 0.2), ("X-other", 0.3)]
    # A cursor stays good: who lost the last answer asks again.
    assert pages(api, cursor)[0] == fresh
    assert pages(api, later)[0] == []
    every = [one["probability"] for one in pages(api, every=True)[0] if one["lead_id"] == "X-pages"]
    assert every == [0.1, 0.2]


def test_updated_since_leaves_out_what_is_older(api, keep):
    keep("X-since", 0.1)
    ahead = format_instant(int(time.time()) + 3600)
    assert api.get("/v1/scores", params={"updated_since": ahead}).json()["scores"] == []
    recently = format_instant(int(time.time()) - 60)
    assert "X-since" in [one["lead_id"] for one in pages(api, updated_since=recently)[0]]


def test_every_form_tells_the_same(api, keep):
    keep("X-forms", 0.4)
    whole, cursor = pages(api, limit=1000)
    lines = api.get("/v1/scores", headers=NDJSON)
    assert [json.loads(line) for line in lines.text.splitlines()] == whole
    rows = api.get("/v1/scores", headers=CSV)
    table = list(csv.DictReader(io.StringIO(rows.text)))
    assert tuple(table[0]) == COLUMNS
    assert [row["lead_id"] for row in table] == [score["lead_id"] for score in whole]
    by_id = {row["lead_id"]: row for row in table}
    scored = next(score for score in whole if score["readiness"] == "nurture" and score["reasons"])
    row = by_id[scored["lead_id"]]
    assert (float(row["probability"]), row["grade"]) == (scored["probability"], scored["grade"])
    assert row["top_reason"] == scored["reasons"][0]["text"]
    for streamed in (lines, rows):
        assert pages(api, streamed.headers["next-cursor"])[0] == []
    keep("X-forms", 0.5)
    for form in (NDJSON, CSV):
        assert "X-forms" in api.get("/v1/scores", params={"cursor": cursor}, headers=form).text
    assert api.get("/v1/scores?limit=1").headers["next-cursor"]


def test_a_cell_that_a_spreadsheet_would_run_is_quoted(api, keep):
    keep("=cmd|'/c calc'!A1", 0.4)
    table = csv.DictReader(io.StringIO(api.get("/v1/scores", headers=CSV).text))
    assert any(row["lead_id"] == "'=cmd|'/c calc'!A1" for row in table)


@pytest.mark.parametrize(
    "query",
    ["cursor=x", "cursor=W10", "cursor=Wy0xXQ", "cursor=WyIxIl0", "cursor=é", "updated_since=yesterday",
     "updated_since=2026-01-01T00:00:00", "limit=0", "limit=1001", "every=maybe"],
)  # fmt: skip
def test_impossible_parameters_are_a_problem(api, query):
    answer = api.get(f"/v1/scores?{query}")
    assert (answer.status_code, answer.json()["name"]) == (422, "InvalidQuery")


def test_a_stream_ends_where_it_began_however_much_is_scored_meanwhile(api, api_store, keep, monkeypatch):
    monkeypatch.setattr("serving.routes.scores.AT_ONCE", 5)
    _, cursor = pages(api)
    for number in range(20):
        keep(f"X-stream-{number}", 0.2)
    read, again = api_store.read, iter(range(10**6))

    def overtaking(work):
        found = read(work)
        # The lead that comes last is scored again, before each look at the next few.
        number = next(again)
        if number:
            keep("X-stream-19", 0.3)
        return found

    monkeypatch.setattr(type(api_store), "read", lambda self, work: overtaking(work))
    answer = api.get("/v1/scores", params={"cursor": cursor}, headers=NDJSON)
    monkeypatch.undo()
    ids = [json.loads(line)["lead_id"] for line in answer.text.splitlines()]
    assert ids == [f"X-stream-{number}" for number in range(19)]
    rest, _ = pages(api, answer.headers["next-cursor"])
    assert [one["lead_id"] for one in rest] == ["X-stream-19"]
