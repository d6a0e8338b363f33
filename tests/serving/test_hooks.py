"""Webhooks in: signed and configured, or nothing; what they say is kept as if it had been sent."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import pytest

from predictive_scoring.connectors.signatures import sign
from predictive_scoring.keeping.store.histories import read_lead

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
JSON = {"content-type": "application/json"}


def standard(api, body, secret=SECRET, at=None):
    now = int(time.time()) if at is None else at
    signed = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign("msg_1", now, body, [secret]),
    }
    return api.post("/v1/hooks/standard", content=body, headers={**JSON, **signed})


def hubspot(api, events, secret="client secret", address="http://127.0.0.1:3000/v1/hooks/hubspot"):
    body, stamp = json.dumps(events).encode(), str(int(time.time() * 1000))
    signed = f"POST{address}".encode() + body + stamp.encode()
    signature = base64.b64encode(hmac.digest(secret.encode(), signed, hashlib.sha256)).decode()
    headers = {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": stamp}
    return api.post("/v1/hooks/hubspot", content=body, headers={**JSON, **headers})


@pytest.mark.parametrize("source", ["standard", "hubspot", "elsewhere"])
def test_without_a_secret_there_is_no_hook(api, monkeypatch, source):
    for variable in ("PREDICTIVE_SCORING_HOOK_SECRETS", "PREDICTIVE_SCORING_HUBSPOT_CLIENT_SECRET"):
        monkeypatch.delenv(variable, raising=False)
    answer = api.post(f"/v1/hooks/{source}", json={"batch": []})
    assert (answer.status_code, answer.json()["name"]) == (404, "NotFound")


def test_a_signed_batch_is_kept_and_may_come_again(api, api_store, monkeypatch):
    monkeypatch.setenv("PREDICTIVE_SCORING_HOOK_SECRETS", f"whsec_{'A' * 32} {SECRET}")
    item = {"type": "track", "messageId": "hook-1", "userId": "H-1", "event": "page_view"}
    body = json.dumps({"batch": [item]}).encode()
    first, again = standard(api, body).json(), standard(api, body).json()
    assert (first["accepted"], again["accepted"], again["duplicates"]) == (1, 0, 1)
    assert len(api_store.read(lambda tx: read_lead(tx, "H-1")).events) == 1
    late, foreign = standard(api, body, at=int(time.time()) - 400), standard(api, body, f"whsec_{'B' * 32}")
    for refused in (late, foreign, api.post("/v1/hooks/standard", content=body, headers=JSON)):
        assert (refused.status_code, refused.json()["name"]) == (401, "SignatureRefused")


def test_hubspot_changes_create_join_and_erase_leads(api, api_store, monkeypatch):
    monkeypatch.setenv("PREDICTIVE_SCORING_HUBSPOT_CLIENT_SECRET", "client secret")
    at = int(time.time() - 3600) * 1000

    def event(kind, lead=771, **more):
        return {"subscriptionType": f"contact.{kind}", "objectId": lead, "occurredAt": at, **more}

    told = [event("creation"), event("propertyChange", propertyName="title", propertyValue="CEO")]
    assert hubspot(api, told).json()["accepted"] == 2
    lead = api_store.read(lambda tx: read_lead(tx, "771"))
    assert (lead.created, lead.attributes["title"]) == (at // 1000, "CEO")
    assert hubspot(api, [event("propertyChange", propertyName="title", propertyValue="")]).status_code == 200
    hubspot(api, [event("creation", 772), event("merge", 772, primaryObjectId=772, mergedObjectIds=[771])])
    assert api_store.read(lambda tx: read_lead(tx, "771")).lead_id == "772"
    assert hubspot(api, told, "another secret").json()["name"] == "SignatureRefused"
    assert hubspot(api, [event("privacyDeletion", 772)]).json()["erased"] == 1
    assert api.get("/v1/leads/771").status_code == 404


def test_behind_a_proxy_hubspot_signed_the_address_that_it_called(api, monkeypatch):
    monkeypatch.setenv("PREDICTIVE_SCORING_HUBSPOT_CLIENT_SECRET", "client secret")
    outside = "https://scoring.example.com/v1/hooks/hubspot"
    assert hubspot(api, [], address=outside).status_code == 401
    monkeypatch.setenv("PREDICTIVE_SCORING_PUBLIC_URL", "https://scoring.example.com/")
    assert hubspot(api, [], address=outside).status_code == 200
