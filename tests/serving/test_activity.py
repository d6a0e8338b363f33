"""What is told about one lead besides its events, and everything read back."""

from __future__ import annotations

import itertools
import time
from urllib.parse import quote

import pytest
from serving.routes.activity import CONSENT_EXAMPLE, FEEDBACK_EXAMPLE, OUTCOME_EXAMPLE, TOUCH_EXAMPLE

from predictive_scoring.keeping.store.histories import read_lead
from predictive_scoring.timeline import format_instant
from store_messages import waiting

SECRET = "jane.doe@example.com"
NOW = int(time.time())
_numbers = itertools.count()


@pytest.fixture
def lead(api) -> str:
    """The address of a stored lead that no other test uses; its id holds what an id may hold."""
    lead_id = f"A {next(_numbers)}/ä%2F?#"
    batch = [
        {"type": "identify", "messageId": f"{lead_id}i", "userId": lead_id, "traits": {"title": "CEO"}},
        {"type": "track", "messageId": f"{lead_id}e", "userId": lead_id, "event": "page_view"},
    ]
    assert api.post("/v1/events", json={"batch": batch}).json()["accepted"] == 2
    return f"/v1/leads/{quote(lead_id, safe='')}"


def kinds(page):
    return sorted(entry["kind"] for entry in page["entries"])


@pytest.mark.parametrize(
    ("kind", "body", "again"),
    [
        ("touches", TOUCH_EXAMPLE, False),
        ("outcomes", OUTCOME_EXAMPLE, False),
        ("consents", {**CONSENT_EXAMPLE, "occurred_at": "2026-06-01T00:00:00Z"}, False),
        ("feedback", {**FEEDBACK_EXAMPLE, "feedback_id": "f"}, False),
        ("feedback", {"verdict": "good"}, True),
    ],
)
def test_told_twice_it_is_kept_once_where_it_has_an_id(api, lead, kind, body, again):
    body = {
        **body,
        **{
            name: f"{lead}:{body[name]}"[:200]
            for name in body
            if name.endswith("_id") and name != "action_id"
        },
    }
    answers = [api.post(f"{lead}/{kind}", json=body).json() for _ in range(2)]
    assert answers == [{"new": True}, {"new": again}]
    told = {"touches": "touch", "outcomes": "outcome", "consents": "consent", "feedback": "feedback"}[kind]
    assert kinds(api.get(f"{lead}/history").json()).count(told) == 1 + again


def test_a_consent_counts_for_the_next_score(api, api_store, lead):
    api.post(
        f"{lead}/consents", json={"channel": "email", "granted": True, "occurred_at": format_instant(NOW)}
    )
    api.post(
        f"{lead}/consents",
        json={"channel": "email", "granted": False, "occurred_at": format_instant(NOW + 1)},
    )
    lead_id = api.get(lead).json()["lead_id"]
    assert lead_id in waiting(api_store)
    channels = [action["channel"] for action in api.get(lead).json()["actions"]]
    assert "email" not in channels


@pytest.mark.parametrize("kind", ["touches", "feedback", "consents", "outcomes"])
@pytest.mark.parametrize(
    ("body", "status", "name"),
    [
        (b"{", 400, "InvalidJson"),
        (b"[]", 422, "InvalidBody"),
        (b"{}", 422, "InvalidBody"),
        (b'{"jane.doe@example.com": "jane.doe@example.com"}', 422, "InvalidBody"),
        (b'{"occurred_at": "jane.doe@example.com"}', 422, "InvalidBody"),
    ],
)
def test_a_bad_body_is_a_problem_that_repeats_nothing(api, lead, kind, body, status, name):
    answer = api.post(f"{lead}/{kind}", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["name"]) == (status, name)
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    "change",
    [{"occurred_at": "2026-06-01T00:00:00"}, {"occurred_at": "1931-01-01T00:00:00Z"}, {"touch_id": ""},
     {"touch_id": "\0"}, {"propensity": 1.5}, {"holdout": "no"}, {"channel": None}],
)  # fmt: skip
def test_a_touch_that_cannot_be_kept_is_refused(api, lead, change):
    answer = api.post(f"{lead}/touches", json={**TOUCH_EXAMPLE, **change})
    assert (answer.status_code, answer.json()["name"]) == (422, "InvalidBody")
    assert answer.json()["where"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [("touches", TOUCH_EXAMPLE), ("feedback", FEEDBACK_EXAMPLE), ("consents", CONSENT_EXAMPLE),
     ("outcomes", OUTCOME_EXAMPLE)],
)  # fmt: skip
def test_nobody_knows_an_unknown_lead(api, kind, body):
    answer = api.post(f"/v1/leads/nobody/{kind}", json=body)
    assert (answer.status_code, answer.json()["name"]) == (404, "UnknownLead")
    for path in ("/v1/leads/nobody/history", "/v1/leads/nobody/subject", "/v1/leads/%00", "/v1/leads/nobody"):
        assert api.get(path).status_code == 404


def test_the_history_is_the_same_page_by_page_and_newest_first(api, lead):
    for number in range(7):
        # Several of one second, so that pages end within it.
        touched = {
            **TOUCH_EXAMPLE,
            "touch_id": f"{lead}-{number}",
            "occurred_at": format_instant(NOW - number // 3),
        }
        api.post(f"{lead}/touches", json=touched)
    api.post(f"{lead}/feedback", json={"verdict": "good", "occurred_at": format_instant(NOW - 1)})
    whole = api.get(f"{lead}/history").json()
    assert whole["before"] is None
    assert kinds(whole) == ["attribute", "event", "feedback", *["touch"] * 7]
    assert [entry["at"] for entry in whole["entries"]] == sorted(
        (entry["at"] for entry in whole["entries"]), reverse=True
    )
    for limit in (1, 2, 3):
        entries, before = [], None
        while True:
            asked = {"limit": limit, **({} if before is None else {"before": before})}
            page = api.get(f"{lead}/history", params=asked).json()
            assert len(page["entries"]) <= limit
            entries += page["entries"]
            before = page["before"]
            if before is None:
                break
        assert entries == whole["entries"]


def test_scores_stand_in_the_history_and_feedback_can_name_them(api):
    row = next(
        row for row in api.get("/v1/leads?limit=50").json()["leads"] if row["lead_id"].startswith("L-")
    )
    address = f"/v1/leads/{row['lead_id']}"
    scores = [
        one for one in api.get(f"{address}/history?limit=1000").json()["entries"] if one["kind"] == "score"
    ]
    assert scores[0]["probability"] == row["probability"]
    told = {"verdict": "good", "score_cursor": scores[0]["cursor"]}
    assert api.post(f"{address}/feedback", json=told).json() == {"new": True}
    wrong = api.post(f"{address}/feedback", json={"verdict": "good", "score_cursor": "x"})
    assert (wrong.status_code, wrong.json()["where"]) == (422, "score_cursor")


@pytest.mark.parametrize("before", ["x", "W10", "WzEsImV2ZW50Il0", "WzEsIngiLCJ5Il0", "WzEsInNjb3JlIiwieSJd"])
def test_a_place_in_the_history_that_nobody_gave_is_refused(api, lead, before):
    answer = api.get(f"{lead}/history", params={"before": before})
    assert (answer.status_code, answer.json()["name"]) == (422, "InvalidQuery")


def test_the_subject_report_tells_everything_and_an_erasure_leaves_nothing(api, api_store, lead):
    api.post(f"{lead}/outcomes", json={**OUTCOME_EXAMPLE, "outcome_id": lead})
    report = api.get(f"{lead}/subject").json()
    assert {name for name in ("events", "attribute_changes", "outcomes", "leads") if report[name]} == {
        "events",
        "attribute_changes",
        "outcomes",
        "leads",
    }
    lead_id = report["lead_id"]
    assert api_store.read(lambda tx: read_lead(tx, lead_id)).events
    first, again = (api.delete(lead, headers={"idempotency-key": f"gone {_numbers}"}) for _ in range(2))
    assert first.json()["erased"]["outcomes"] == 1
    assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")
    assert api.get(f"{lead}/subject").status_code == 404


def test_a_write_under_a_key_is_done_once_and_belongs_to_its_address(api, lead):
    headers = {"idempotency-key": f"good {_numbers}"}
    first, again = (api.post(f"{lead}/feedback", json={"verdict": "good"}, headers=headers) for _ in range(2))
    assert (first.json(), again.json()) == ({"new": True}, {"new": True})
    assert again.headers["idempotency-replayed"] == "true"
    assert kinds(api.get(f"{lead}/history").json()).count("feedback") == 1
    other = api.delete(lead, headers=headers)
    assert (other.status_code, other.json()["name"]) == (422, "IdempotencyConflict")
    assert api.get(lead).status_code == 200
    empty = api.post(f"{lead}/feedback", json={"verdict": "good"}, headers={"idempotency-key": "x" * 201})
    assert (empty.status_code, empty.json()["name"]) == (422, "InvalidQuery")
