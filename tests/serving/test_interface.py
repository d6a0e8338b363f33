"""Everything around scoring: probes, metrics, the ranked list, the OpenAPI document, problems, headers."""

from __future__ import annotations

import re
import shutil

import pytest
from serving.problems import PROBLEMS
from serving.scopes import RULES
from serving.state import ServingState

from predictive_scoring.schema import Score
from stored_project import listed

PATHS = (
    "/",
    "/v1/model",
    "/v1/leads",
    "/readyz",
    "/livez",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/nothing",
    "/v1/nothing",
)


def test_every_stored_lead_has_the_document_of_the_list(client, serving):
    page = client.get("/v1/leads", params={"limit": 500}).json()
    assert page["total"] == len(listed(serving)) == 600
    for row in page["leads"][::50]:
        score = Score.model_validate_json(client.get(f"/v1/leads/{row['lead_id']}").content)
        assert (score.probability, score.score, score.status) == (
            row["probability"],
            row["score"],
            row["status"],
        )


def test_leads_are_ranked_by_probability_and_leads_without_a_score_come_last(client):
    rows = [
        row
        for offset in (0, 500)
        for row in client.get(f"/v1/leads?limit=500&offset={offset}").json()["leads"]
    ]
    scored = [row for row in rows if row["status"] == "scored"]
    assert rows[: len(scored)] == scored
    assert [row["rank"] for row in scored] == list(range(1, len(scored) + 1))
    assert [row["probability"] for row in scored] == sorted(
        (row["probability"] for row in scored), reverse=True
    )
    for row in rows[len(scored) :]:
        assert row["rank"] is None
        assert row["score"] is None
        assert row["status_reason"]


def test_filters_of_the_list(client):
    def total(**query):
        return client.get("/v1/leads", params=query).json()["total"]

    assert total(readiness="ready") + total(readiness="nurture") + total(readiness="unscored") == 600
    for row in client.get("/v1/leads?readiness=nurture&stage=dormant").json()["leads"]:
        assert (row["readiness"], row["stage"]) == ("nurture", "dormant")
    assert total(search="l-00012") == 1
    assert total(search="no such lead") == 0


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=x", "offset=-1", "readiness=maybe", "stage=late"]
)
def test_impossible_parameters_are_a_problem(client, query):
    answer = client.get(f"/v1/leads?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"]


def test_the_model_tells_what_it_is(client, serving):
    document = client.get("/v1/model").json()
    assert document["name"] == "sample"
    assert document["verdict"] in ("validated", "rejected")
    assert document["bundle"] == serving.scorer.identity
    assert 0 < document["reference_odds"] < 1
    assert {"name", "label", "concept", "group", "kind"} == set(document["features"][0])
    assert document["metrics"]["test"]["auc"] > 0.5


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("GET", "/v1/leads/nobody", 404, "UnknownLead"),
        ("GET", "/v1/leads/a%2Fb", 404, "UnknownLead"),
        ("GET", "/v1/nothing", 404, "NotFound"),
        ("GET", "/healthz", 404, "NotFound"),
        ("GET", "/static/../app.py", 404, "NotFound"),
        ("GET", "/v1/score", 405, "MethodNotAllowed"),
        ("DELETE", "/v1/model", 405, "MethodNotAllowed"),
    ],
)
def test_refusals_are_problems(client, method, path, status, name):
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["name"]) == (status, name)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (status == 405) == ("allow" in answer.headers)


def test_an_unexpected_error_is_a_problem_without_details(client, monkeypatch):
    monkeypatch.setattr("serving.routes.model.model_facts", lambda serving: 1 / 0)
    answer = client.get("/v1/model")
    assert (answer.status_code, answer.json()["name"]) == (500, "InternalError")
    assert "division" not in answer.text


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_carries_the_security_headers(client, path):
    headers = client.get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_metrics_know_routes_and_never_paths(client):
    for number in range(200):
        client.get(f"/v1/leads/nobody-{number}")
        client.get(f"/scan/{number}.php")
        client.request(f"VERB{number}", "/")
    text = client.get("/metrics").text
    routes = set(re.findall(r'route="([^"]*)"', text))
    assert "/v1/leads/{lead_id:path}" in routes
    assert routes <= {
        "/", "/docs", "/leads/{lead_id:path}", "/livez", "/readyz", "/metrics", "/openapi.json", "/static", "unmatched",
        "/v1/leads", "/v1/leads/{lead_id:path}", "/v1/model", "/v1/score",
    }  # fmt: skip
    assert "nobody" not in text
    assert "VERB" not in text
    assert "predictive_scoring_ready 1.0" in text


def test_the_openapi_document_is_complete_and_tells_the_truth(client):
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    operations = {(method.upper(), path) for path, found in document["paths"].items() for method in found}
    # What is for programs and probes: everything that has a rule and is no page.
    assert operations == {
        (method, path)
        for (method, path), rule in RULES.items()
        if not rule.page and path not in ("/static", "/openapi.json")
    }
    schemas = document["components"]["schemas"]
    assert {"Score", "ScoreRequest", "LeadBody", "EventBody", "Problem"} <= set(schemas)
    assert not {"HTTPValidationError", "ValidationError"} & set(schemas)
    for reference in set(re.findall(r'"#/components/schemas/([^"]+)"', client.get("/openapi.json").text)):
        assert reference in schemas
    body = document["paths"]["/v1/score"]["post"]["requestBody"]["content"]["application/json"]
    for example in body["examples"].values():
        answer = client.post("/v1/score", json=example["value"])
        assert answer.status_code == 200
        assert answer.json()["errors"] == []


def test_the_documentation_page_is_our_own_and_names_every_problem(client):
    page = client.get("/docs").text
    assert "<script" not in page
    assert not re.findall(r"(?:src|href)=\"https?://", page)
    for name in PROBLEMS:
        assert f'id="{name}"' in page


def test_alive_at_once_and_ready_only_when_loaded(small_champion, application):
    state = ServingState(small_champion.file, small_champion.models)
    state.start = lambda: None  # never loads
    with application(state) as client:
        assert client.get("/livez").status_code == 200
        for path in ("/readyz", "/v1/model", "/v1/leads", "/v1/leads/x"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["name"]) == (503, "NotReady")
            assert answer.headers["retry-after"]
        page = client.get("/")
        assert page.status_code == 503
        assert "being loaded" in page.text
        assert client.post("/v1/score", json={"leads": [{"lead_id": "x"}]}).status_code == 503
        # Whether a key is needed for it stands in the store.
        assert client.get("/metrics").status_code == 503


def test_a_service_without_a_champion_says_so_and_stays_alive(small_champion, application, tmp_path):
    assert_never_ready(application, ServingState(small_champion.file, tmp_path), "UnknownModel")
    assert_never_ready(application, ServingState(None, tmp_path), "InvalidSetting")


def test_a_damaged_bundle_is_not_served(small_champion, application, tmp_path):
    models = tmp_path / "models"
    shutil.copytree(small_champion.models, models)
    for path in models.glob("*/bundles/*/model.json"):
        path.chmod(0o644)
        path.write_text(path.read_text().replace("0", "1", 1))
    assert_never_ready(application, ServingState(small_champion.file, models), "CorruptBundle")


def assert_never_ready(application, state, error):
    with application(state) as client:
        state.start()
        while state.failure is None:
            assert state.serving is None
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["error"]) == (503, error)
        assert client.get("/livez").status_code == 200
