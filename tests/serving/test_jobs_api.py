"""Bulk scoring over HTTP: begun, watched while the worker works, read, cancelled."""

from __future__ import annotations

import time

import pytest

from predictive_scoring.live.jobs import claim_job, step_job
from predictive_scoring.timeline import format_instant


@pytest.fixture(autouse=True)
def alone(api):
    """Other tests begin jobs in this store too."""
    for job in api.get("/v1/jobs?limit=500").json()["jobs"]:
        api.delete(f"/v1/jobs/{job['job_id']}")


def worked_off(writing, job_id, *, steps=10**6, limit=200):
    """Work on the job as the background worker does."""
    api, state = writing
    store, scorer, now = state.open(), state.ready().scorer, int(time.time())
    job = claim_job(store, "test", now)
    assert job is not None
    assert job.job_id == job_id
    seen = []
    for _ in range(steps):
        seen.append(api.get(f"/v1/jobs/{job_id}").json()["progress"])
        job = step_job(store, scorer, job, "test", now, limit=limit)
        if job is None:
            break
    return seen


def test_a_job_scores_the_leads_it_names_and_tells_where_to_read_them(writing):
    api, _ = writing
    ids = [row["lead_id"] for row in api.get("/v1/leads?limit=3&readiness=nurture").json()["leads"]]
    begun = api.post("/v1/jobs", json={"kind": "score", "lead_ids": [*ids, "nobody"]})
    assert begun.status_code == 202
    job = begun.json()
    assert begun.headers["location"] == f"/v1/jobs/{job['job_id']}"
    assert (job["state"], job["total"], job["done"], job["progress"]) == ("queued", 4, 0, 0)
    assert worked_off(writing, job["job_id"], limit=2) == [0, 0.5, 1]
    done = api.get(begun.headers["location"]).json()
    assert (done["state"], done["done"], done["failed"], done["progress"]) == ("done", 4, 1, 1)
    assert done["finished_at"]
    scores = api.get(done["scores"]).json()
    assert [score["lead_id"] for score in scores["scores"]] == ids
    assert done in api.get("/v1/jobs?limit=500").json()["jobs"]
    assert len(api.get("/v1/jobs?limit=1").json()["jobs"]) == 1


def test_a_job_at_an_instant_of_the_past_is_read_the_same_way(writing):
    api, _ = writing
    (row,) = api.get("/v1/leads?limit=1&readiness=nurture").json()["leads"]
    as_of = format_instant(int(time.time()) - 200 * 86_400)
    body = {"kind": "score", "lead_ids": [row["lead_id"]], "as_of": as_of}
    job = api.post("/v1/jobs", json=body).json()
    worked_off(writing, job["job_id"])
    (score,) = api.get(job["scores"]).json()["scores"]
    assert (score["lead_id"], score["as_of"]) == (row["lead_id"], as_of)


def test_a_job_over_everybody_can_be_cancelled(writing):
    api, _ = writing
    job = api.post("/v1/jobs", json={"kind": "score"}).json()
    assert job["total"] >= 600
    worked_off(writing, job["job_id"], steps=1, limit=10)
    ended = api.delete(f"/v1/jobs/{job['job_id']}").json()
    assert (ended["state"], ended["done"]) == ("cancelled", 10)
    assert api.delete(f"/v1/jobs/{job['job_id']}").json() == ended


def test_a_job_begun_under_a_key_is_begun_once(writing):
    api, _ = writing
    headers = {"idempotency-key": "nightly"}
    first, again = (api.post("/v1/jobs", json={"kind": "score"}, headers=headers) for _ in range(2))
    assert first.json() == again.json()
    assert first.headers["location"] == again.headers["location"]
    api.delete(first.headers["location"])


@pytest.mark.parametrize(
    "body",
    [{}, {"kind": "train"}, {"kind": "score", "lead_ids": []}, {"kind": "score", "lead_ids": [""]},
     {"kind": "score", "lead_ids": ["\0"]}, {"kind": "score", "as_of": "today"}, {"kind": "score", "leads": []}],
)  # fmt: skip
def test_a_job_that_makes_no_sense_is_refused(writing, body):
    answer = writing[0].post("/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["name"]) == (422, "InvalidBody")


def test_an_unknown_job_is_a_problem(writing):
    api, _ = writing
    for answer in (api.get("/v1/jobs/none"), api.delete("/v1/jobs/none")):
        assert (answer.status_code, answer.json()["name"]) == (404, "UnknownJob")
