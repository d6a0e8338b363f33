"""Whoever opted out is not scored, however the lead is sent, and by whichever of its ids."""

from __future__ import annotations

import itertools

import pytest
from serving.routes.events import EVENTS_EXAMPLE

from predictive_scoring.live.consent import opted_out

_numbers = itertools.count()


@pytest.fixture
def person() -> dict[str, str]:
    number = next(_numbers)
    return {"userId": f"opt-{number}", "anonymousId": f"browser-{number}"}


def told(api, person, day: int, **traits):
    message = {
        "type": "identify",
        "messageId": f"opt-{next(_numbers)}",
        "timestamp": f"2026-03-{day:02}T00:00:00Z",
        **person,
        "traits": traits,
    }
    assert api.post("/v1/events", json={"batch": [message]}).json()["accepted"] == 1


def in_body(lead_id: str, **attributes):
    return {"lead_id": lead_id, "created_at": "2026-01-05T09:00:00Z", "attributes": attributes}


def statuses(api, *leads):
    answer = api.post("/v1/score", json={"leads": list(leads), "as_of": "2026-06-01T00:00:00Z"}).json()
    return [(score["status"], score["status_reason"]) for score in answer["scores"]]


def test_a_stored_opt_out_holds_for_a_lead_in_a_body(api, person):
    lead_id = person["userId"]
    assert statuses(api, in_body(lead_id)) == [("scored", None)]
    told(api, person, 1, opted_out=True)
    gone = ("suppressed", "opted_out")
    other = in_body(f"other-{lead_id}")
    assert statuses(api, in_body(lead_id), other) == [gone, ("scored", None)]
    # Nor does a body take it back: that is for whoever tells us who the lead is.
    assert statuses(api, in_body(lead_id, opted_out=False)) == [gone]
    assert statuses(api, {"lead_id": lead_id}) == [gone]
    told(api, person, 2, opted_out=False)
    assert statuses(api, in_body(lead_id)) == [("scored", None)]


def test_it_holds_for_every_id_of_the_lead(api, api_store, serving, person):
    told(api, person, 1, opted_out=True)
    first, project = person["userId"], serving.scorer.scoring.project
    merged = {"type": "alias", "messageId": f"m-{first}", "previousId": first, "userId": f"new-{first}"}
    assert (
        api.post("/v1/events", json={"batch": [merged], "sentAt": EVENTS_EXAMPLE["sentAt"]}).json()[
            "accepted"
        ]
        == 1
    )
    asked = [first, f"new-{first}", "somebody else"]
    assert opted_out(api_store, asked, project) == {first, f"new-{first}"}
    assert opted_out(api_store, [], project) == frozenset()
