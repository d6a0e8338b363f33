"""The requests in docs/api.md and in the OpenAPI document, sent."""

from __future__ import annotations

import json
import re

from conftest import ROOT

BLOCKS = [
    json.loads(block)
    for block in re.findall(
        r"^```json\n(.*?)^```", (ROOT / "docs/api.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
]


def test_what_the_page_tells_is_kept_and_answered_as_it_says(api):
    batch, answer, leads, job = BLOCKS
    assert api.post("/v1/events", json=batch).json() == answer
    scored = api.post("/v1/score", json=leads).json()
    assert [score["lead_id"] for score in scored["scores"]] == [lead["lead_id"] for lead in leads["leads"]]
    assert all(
        score["explanation"] is None and score["reasons"]
        for score in scored["scores"]
        if score["status"] == "scored"
    )
    begun = api.post("/v1/jobs", json=job)
    assert begun.status_code == 202
    api.delete(begun.headers["location"])


def test_the_cursor_in_the_page_is_one(api):
    (cursor,) = re.findall(r"cursor=(\w+)'", (ROOT / "docs/api.md").read_text("utf-8"))
    assert api.get(f"/v1/scores?cursor={cursor}").status_code == 200


def test_every_example_of_the_document_is_taken(api):
    (lead, *_) = api.get("/v1/leads?limit=1").json()["leads"]
    sent = 0
    for path, operations in api.document["paths"].items():
        content = operations.get("post", {}).get("requestBody", {}).get("content", {})
        if path == "/v1/hooks/{source}":
            continue
        for example in content.get("application/json", {}).get("examples", {}).values():
            answer = api.post(path.format(lead_id=lead["lead_id"]), json=example["value"])
            assert answer.status_code in (200, 202), f"{path}: {answer.text}"
            assert not answer.json().get("errors"), path
            sent += 1
    assert sent >= 10
