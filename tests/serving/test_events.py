"""`POST /v1/events`: a Segment batch is kept whole, counted once, and changes the score of its leads at once."""

from __future__ import annotations

import itertools
import json
import time

import pytest
from serving.routes.events import EVENTS_EXAMPLE

from predictive_scoring.keeping.store.histories import read_lead
from predictive_scoring.timeline import format_instant, parse_instant
from store_messages import waiting

SECRET = "jane.doe@example.com"
YESTERDAY = format_instant(int(time.time()) - 86_400)
_numbers = itertools.count()


@pytest.fixture
def lead() -> str:
    """An id that no other test uses."""
    return f"E-{next(_numbers)}/of tests"


def track(lead, message, event="page_view", **more):
    return {
        "type": "track",
        "messageId": f"{lead}:{message}",
        "userId": lead,
        "event": event,
        "timestamp": YESTERDAY,
        **more,
    }


def send(api, *items, key=None, **frame):
    headers = {} if key is None else {"idempotency-key": key}
    answer = api.post("/v1/events", json={"batch": list(items), **frame}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def counted(answer):
    return {name: answer[name] for name in ("accepted", "duplicates", "refused", "erased")}


def test_what_was_told_is_known_and_scored_at_once(api, api_store, lead):
    before = send(
        api,
        {
            "type": "identify",
            "userId": lead,
            "messageId": f"{lead}:i",
            "timestamp": "2026-07-01T00:00:00Z",
            "traits": {
                "title": "VP Sales",
                "company_size": 240,
                "createdAt": "2026-06-28T08:00:00Z",
                "consent_email": True,
            },
        },
        track(lead, 1),
    )
    assert counted(before) == {"accepted": 2, "duplicates": 0, "refused": 0, "erased": 0}
    assert before["warnings"] == []
    first = api.get(f"/v1/leads/{lead}").json()
    assert first["status"] == "scored"
    send(
        api,
        *(
            track(lead, f"p{number}", "Pricing View", properties={"duration_seconds": 60})
            for number in range(4)
        ),
    )
    stored = api_store.read(lambda tx: read_lead(tx, lead))
    assert stored.created == parse_instant("2026-06-28T08:00:00Z")
    assert stored.attributes["company_size"] == 240
    assert [event.event_type for event in stored.events].count("pricing_view") == 4
    assert lead in waiting(api_store)
    after = api.get(f"/v1/leads/{lead}").json()
    assert after["score"] > first["score"]
    by_id = api.post("/v1/score", json={"leads": [{"lead_id": lead}]}).json()["scores"][0]
    assert by_id == after


def test_sent_again_in_another_order_it_changes_nothing(api, api_store, lead):
    items = [track(lead, number, timestamp=f"2026-07-02T10:00:{number:02}Z") for number in range(9)]
    assert counted(send(api, *items))["accepted"] == 9
    stored = api_store.read(lambda tx: read_lead(tx, lead))
    again = send(api, *reversed(items), track(lead, "new"))
    assert counted(again) == {"accepted": 1, "duplicates": 9, "refused": 0, "erased": 0}
    assert api_store.read(lambda tx: read_lead(tx, lead)).events[:9] == stored.events


def test_one_bad_item_spares_the_others_and_is_not_repeated(api, lead):
    bad = [
        7,
        {"type": "track", "userId": lead},
        {"type": "dance", "userId": lead},
        track(lead, "naive", timestamp="2026-07-02T10:00:00"),
        track(lead, "no time", timestamp=SECRET),
        track(lead, "year", timestamp="1931-01-01T00:00:00Z"),
        track("", "nobody"),
        track(lead, "long", "x" * 101),
        track("anonymous:x", "posing"),
        track(lead, "nul", properties={"note": f"{SECRET}\0"}),
        track(lead, "large", properties={"note": SECRET * 2000}),
        track(lead, "x" * 200),
        track(lead, "born", "lead_created"),
        {"type": "identify", "userId": [SECRET], "traits": {}},
        {"type": "identify", "userId": lead, "traits": [SECRET]},
        {"type": "alias", "userId": lead},
        {"type": "identify", "userId": lead, "traits": {"createdAt": SECRET}},
    ]
    answer = send(api, track(lead, "first"), *bad, track(lead, "last"))
    assert counted(answer) == {"accepted": 2, "duplicates": 0, "refused": len(bad), "erased": 0}
    assert [error["index"] for error in answer["errors"]] == list(range(1, 1 + len(bad)))
    for error in answer["errors"]:
        assert error["where"].startswith(f"batch[{error['index']}].")
        assert error["remedy"]
    assert answer["errors"][3]["code"] == "NaiveTimestamp"
    assert answer["errors"][6]["where"].endswith(".userId")
    assert SECRET not in json.dumps(answer)


def test_what_no_model_reads_is_kept_and_told_by_count(api, api_store, lead):
    odd = [
        track(lead, "moon", "Moon Landing"),
        track(lead, "moon2", "moon_landing"),
        track(lead, "mail", SECRET),
        track(lead, "later", timestamp=format_instant(int(time.time()) + 86_400)),
        {key: value for key, value in track(lead, "x").items() if key != "messageId"},
    ]
    answer = send(api, *odd, sentAt="yesterday")
    told = {warning["code"]: warning for warning in answer["warnings"]}
    assert {code: warning["count"] for code, warning in told.items()} == {
        "UndeclaredEventType": 3,
        "FutureTime": 1,
        "NoMessageId": 1,
        "UnreadableSentAt": 1,
    }
    assert "Moon Landing" in told["UndeclaredEventType"]["what"]
    assert SECRET not in json.dumps(answer)
    types = [event.event_type for event in api_store.read(lambda tx: read_lead(tx, lead)).events]
    assert types.count("moon_landing") == 2
    assert counted(answer)["accepted"] == 5


def test_an_event_of_tomorrow_counts_tomorrow(api, lead):
    send(api, track(lead, "now"))
    before = api.get(f"/v1/leads/{lead}").json()
    tomorrow = format_instant(int(time.time()) + 86_400)
    send(api, track(lead, "later", "demo_request", timestamp=tomorrow))
    after = api.get(f"/v1/leads/{lead}").json()
    assert after["score"] == before["score"]
    asked = {"leads": [{"lead_id": lead}], "as_of": format_instant(int(time.time()) + 2 * 86_400)}
    assert api.post("/v1/score", json=asked).json()["scores"][0]["score"] > before["score"]


def test_a_visitor_becomes_a_lead_with_its_history(api, api_store, lead):
    visitor = f"browser of {lead}"
    page = {
        "type": "page",
        "messageId": f"{lead}:p",
        "anonymousId": visitor,
        "name": "Home",
        "properties": {"path": "/"},
    }
    assert counted(send(api, page))["accepted"] == 1
    assert api.get(f"/v1/leads/{lead}").status_code == 404
    send(api, {"type": "identify", "userId": lead, "anonymousId": visitor, "traits": {}})
    (event,) = api_store.read(lambda tx: read_lead(tx, lead)).events
    assert (event.event_type, event.properties["name"]) == ("page_view", "Home")
    send(api, {"type": "alias", "userId": f"{lead} later", "previousId": lead})
    assert api_store.read(lambda tx: read_lead(tx, lead)).lead_id == f"{lead} later"


@pytest.mark.parametrize(
    ("body", "status", "name"),
    [
        (b"{", 400, "InvalidJson"),
        (b'{"batch": [NaN]}', 400, "InvalidJson"),
        (b"[]", 422, "InvalidBody"),
        (b"{}", 422, "InvalidBody"),
        (b'{"batch": 1}', 422, "InvalidBody"),
        (b'{"batch": [' + b"0," * 5000 + b"0]}", 422, "InvalidBody"),
    ],
)
def test_a_body_that_is_no_batch_is_a_problem(api, body, status, name):
    answer = api.post("/v1/events", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["name"]) == (status, name)


def test_an_empty_batch_is_nothing(api):
    assert counted(send(api)) == {"accepted": 0, "duplicates": 0, "refused": 0, "erased": 0}


def test_the_example_of_the_document_is_kept_without_a_word(api, lead):
    # Under ids of its own: others send the example as it is.
    items = [{**item, "messageId": f"{lead}:{item['messageId']}"} for item in EVENTS_EXAMPLE["batch"]]
    answer = send(api, *items, sentAt=EVENTS_EXAMPLE["sentAt"])
    assert (answer["accepted"], answer["errors"], answer["warnings"]) == (2, [], [])


def test_under_a_key_a_request_does_its_work_once(api, api_store, lead):
    body = {"batch": [{"type": "track", "userId": lead, "event": "page_view"}]}
    headers = {"idempotency-key": f"key of {lead}"}
    first, again = (api.post("/v1/events", json=body, headers=headers) for _ in range(2))
    assert first.content == again.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert len(api_store.read(lambda tx: read_lead(tx, lead)).events) == 1
    other = api.post("/v1/events", json={"batch": []}, headers=headers)
    assert (other.status_code, other.json()["name"]) == (422, "IdempotencyConflict")
    elsewhere = api.post("/v1/jobs", json={"kind": "score", "lead_ids": [lead]}, headers=headers)
    assert elsewhere.json()["name"] == "IdempotencyConflict"


def test_an_erased_lead_stays_erased(api, lead):
    send(api, track(lead, 1))
    gone = api.delete(f"/v1/leads/{lead}")
    assert gone.status_code == 200
    assert gone.json()["erased"]["events"] == 1
    assert api.get(f"/v1/leads/{lead}").status_code == 404
    assert counted(send(api, track(lead, 2)))["erased"] == 1
    assert api.get(f"/v1/leads/{lead}/history").status_code == 404
    assert api.delete(f"/v1/leads/{lead}").json()["vectors"] == 0


def test_segments_libraries_send_to_their_own_address(api, lead):
    answer = api.post("/v1/batch", json={"batch": [track(lead, "b")], "writeKey": "unused"})
    assert counted(answer.json()) == {"accepted": 1, "duplicates": 0, "refused": 0, "erased": 0}
    assert counted(send(api, track(lead, "b")))["duplicates"] == 1
