"""What an operator sees: metrics whose number is bounded, log lines without personal data, traces."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from serving.metrics import Metrics, Moment, StoreNumbers
from serving.moments import moment_of, store_numbers

from predictive_scoring.keeping.store.outbox import Outgoing, post
from predictive_scoring.keeping.store.rescoring import mark
from serving import tracing

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_800_000_000
CANARY = "jane.canary@example.com"
LEAD = {
    "lead_id": CANARY,
    "created_at": "2026-01-05T09:00:00Z",
    "events": [{"event_id": "1", "event_type": "pricing_view", "occurred_at": "2026-02-01T10:00:00Z"}],
}
BODY = {"leads": [LEAD], "as_of": "2026-02-10T00:00:00Z"}


def series(text: str) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Name and labels of every series."""
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float:
    (found,) = (
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    )
    return found


def test_nobody_can_make_new_series(client):
    def knock(number: int) -> None:
        client.get(f"/{number}/{CANARY}")
        client.get(f"/v1/leads/{CANARY}-{number}")
        client.request("BREW", f"/v1/leads/{number}")
        client.post("/v1/score", json={"leads": [{"lead_id": f"{CANARY}{number}"}], f"key{number}": 1})
        client.get("/v1/model", headers={"host": f"{number}.example.com"})
        client.get(f"/v1/leads?readiness={number}", headers={"x-request-id": f"{CANARY}-{number}"})

    knock(0)
    client.get("/metrics")
    before = series(client.get("/metrics").text)
    for number in range(1, 84):
        knock(number)
    text = client.get("/metrics").text
    assert series(text) == before
    assert "canary" not in text
    assert value(text, "predictive_scoring_refused_total", problem="MisdirectedHost") >= 84


def test_one_model_serves_and_one_has_a_series():
    metrics = Metrics()
    for version in ("1", "2"):
        text = metrics.text(Moment(ready=True, model=("demo", version, f"sha256:{version}"))).decode()
        assert [labels for name, labels in series(text) if name == "predictive_scoring_model"] == [
            (("bundle", f"sha256:{version}"), ("name", "demo"), ("version", version))
        ]
    assert value(metrics.text(Moment(ready=True, stopping=True)).decode(), "predictive_scoring_ready") == 0


def test_what_waits_in_the_store_is_told(api_store):
    def told(tx) -> tuple[StoreNumbers, StoreNumbers]:
        before = store_numbers(tx, NOW)
        mark(tx, ["waits-1", "waits-2"], NOW - 40)
        post(tx, [Outgoing("crm", "score.changed", "{}")], NOW)
        return before, store_numbers(tx, NOW)

    before, after = api_store.write(told)
    assert after.backlog == before.backlog + 2
    assert after.backlog_age >= 40
    assert after.outbox_waiting == before.outbox_waiting + 1
    text = Metrics().text(Moment(store=after)).decode()
    assert value(text, "predictive_scoring_rescoring_backlog") == after.backlog
    assert value(text, "predictive_scoring_store_reachable") == 1


def test_a_store_that_does_not_answer_is_told_and_not_raised(state, tmp_path):
    from predictive_scoring.keeping.store.opening import open_store

    broken = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    broken.close()
    (tmp_path / "store.db").write_bytes(b"not a database at all" * 1000)

    class Held:
        serving, store, stopping, swaps, refused = state.serving, broken, False, 0, None

    moment = moment_of(Held, NOW)
    assert moment.store is None
    assert value(Metrics().text(moment).decode(), "predictive_scoring_store_reachable") == 0


def test_requests_and_transactions_are_timed(client):
    client.post("/v1/score", json=BODY)
    assert client.get("/v1/leads").status_code == 200
    text = client.get("/metrics").text
    assert value(text, "predictive_scoring_request_seconds_count", route="/v1/score") >= 1
    assert value(text, "predictive_scoring_store_seconds_count", kind="read") >= 1
    assert value(text, "predictive_scoring_process_resident_bytes", process="api-1") > 10_000_000
    assert value(text, "predictive_scoring_process_open_descriptors", process="api-1") > 3


COUNT = """
import sys
from serving import metrics
metrics.share(int(sys.argv[1]))
counted = metrics.Metrics()
counted.requests.labels("GET", "/livez", "200").inc(int(sys.argv[2]))
counted.seconds.labels("/livez").observe(0.004)
print(counted.text().decode())
"""


def test_workers_count_together_and_go_on_after_a_restart(tmp_path):
    def count(worker: int, number: int) -> str:
        environment = {**os.environ, "PREDICTIVE_SCORING_RUN": str(tmp_path)}
        command = [sys.executable, "-c", COUNT, str(worker), str(number)]
        return subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout

    count(1, 5)
    count(2, 10)
    files = sorted(path.name for path in tmp_path.iterdir())
    text = count(1, 100)
    told = {"method": "GET", "route": "/livez", "status": "200"}
    assert value(text, "predictive_scoring_requests_total", **told) == 115
    assert value(text, "predictive_scoring_request_seconds_count", route="/livez") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == files


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-request-id": "crm-call-0001"}, "crm-call-0001"),
        (
            {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
            "0af7651916cd43dd8448eb211c80319c",
        ),
        ({"x-request-id": CANARY}, None),
        ({"x-request-id": "a b\tc <script>"}, None),
        ({"traceparent": "00-" + "0" * 32 + "-b7ad6b7169203331-01"}, None),
        ({}, None),
    ],
)
def test_a_request_has_an_id_that_looks_like_one(client, headers, expected):
    answered = client.get("/livez", headers=headers).headers["x-request-id"]
    assert answered == expected or (expected is None and len(answered) == 32)


def test_a_request_is_logged_by_its_route_and_by_nothing_personal(client, caplog):
    with caplog.at_level(logging.INFO, "predictive_scoring.access"):
        client.post(f"/v1/score?who={CANARY}", json=BODY)
        client.get(f"/v1/leads/{CANARY}", headers={"x-request-id": CANARY})
        client.get("/livez")
    lines = [record for record in caplog.records if record.name == "predictive_scoring.access"]
    assert [(line.method, line.route, line.status, line.key) for line in lines] == [
        ("POST", "/v1/score", 200, "local"),
        ("GET", "/v1/leads/{lead_id:path}", 404, "local"),
    ]
    assert lines[1].problem == "UnknownLead"
    assert lines[0].ms > 0
    assert "canary" not in str([vars(line) for line in lines])


LOG = """
import logging
from predictive_scoring import logs
from predictive_scoring.errors import InvalidSetting
logs.configure("service", worker=1)
log = logging.getLogger("predictive_scoring.serving")
log.debug("unheard")
log.info("worked", extra={"rescored": 3})
logging.getLogger("sqlalchemy").info("chatter")
try:
    int("jane.canary@example.com")
except ValueError:
    log.exception("failed")
try:
    raise InvalidSetting(what="no", where="here", remedy="do")
except InvalidSetting:
    log.exception("refused\\nforged line")
import threading
threading.Thread(target=lambda: {}["jane.canary@example.com"]).start()
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_log_lines_are_documents_without_values(form):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PREDICTIVE_SCORING_LOG": form}
    done = subprocess.run(
        [sys.executable, "-c", LOG], env=environment, capture_output=True, text=True, check=True
    )
    assert "canary" not in done.stderr
    assert "chatter" not in done.stderr
    assert "unheard" not in done.stderr
    if form == "text":
        lines = [line for line in done.stderr.splitlines() if not line.startswith("    ")]
        assert len(lines) == 4
        assert "worked" in lines[0]
        assert "rescored=3" in lines[0]
        return
    worked, failed, refused, thread = [json.loads(line) for line in done.stderr.splitlines()]
    assert (worked["event"], worked["rescored"], worked["process"], worked["worker"]) == (
        "worked",
        3,
        "service",
        1,
    )
    assert worked["at"].endswith("Z")
    assert failed["error"] == "ValueError"
    assert failed["frames"][0].endswith("<module>")
    assert refused["error_says"].startswith("no")
    assert (thread["event"], thread["error"]) == ("unexpected_error", "KeyError")


def test_a_wrong_log_format_is_refused():
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PREDICTIVE_SCORING_LOG": "xml"}
    done = subprocess.run([sys.executable, "-c", LOG], env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "PREDICTIVE_SCORING_LOG" in done.stderr


@contextmanager
def collector():
    """An OTLP receiver; the spans that arrive."""
    spans = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", spans
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_traces_reach_a_collector_and_name_nobody(client, monkeypatch):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with collector() as (address, spans):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        assert tracing.configure("service")
        try:
            client.post(f"/v1/score?who={CANARY}", json=BODY, headers={"traceparent": parent})
            client.get(f"/v1/leads/{CANARY}", headers={"x-request-id": CANARY})
        finally:
            tracing.close()
    by_name = {span.name: span for span in spans}
    assert {"POST /v1/score", "GET /v1/leads/{lead_id:path}", "scoring", "store read"} <= set(by_name)
    asked = by_name["POST /v1/score"]
    assert asked.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert asked.parent_span_id.hex() == "b7ad6b7169203331"
    told = {one.key: one.value for one in asked.attributes}
    assert told["http.route"].string_value == "/v1/score"
    assert told["http.response.status_code"].int_value == 200
    assert "canary" not in str(spans)


def test_fastapi_makes_no_traces_of_its_own(client, monkeypatch):
    made = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(made))
    # As `opentelemetry-instrument` would; the public setter works once per process.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    with trace.get_tracer("probe").start_as_current_span("probe"):
        client.get(f"/v1/leads/{CANARY}?who={CANARY}")
    assert [span.name for span in made.get_finished_spans()] == ["probe"]


def test_traces_are_off_unless_asked_for(monkeypatch):
    for name in tracing.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert not tracing.configure("service")
    with tracing.span("scoring") as span:
        span.note({"leads": 1})


def test_the_page_for_operators_lists_every_metric(client):
    client.post("/v1/score", json=BODY)
    named = dict(
        re.findall(
            r"^\| `(predictive_scoring_\w+)` \| ([^|]*)\|",
            (ROOT / "docs" / "operations.md").read_text("utf-8"),
            re.MULTILINE,
        )
    )
    metrics = Metrics()
    numbers = StoreNumbers(1, 2, 3, 4, 5)
    text = metrics.text(Moment(ready=True, model=("demo", "1", "sha256:1"), store=numbers)).decode()
    text += client.get("/metrics").text
    for line in re.findall(r"^# TYPE (\S+) (?:counter|gauge|histogram)$", text, re.MULTILINE):
        assert line in named, line
    families = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    assert families == set(named)
    for name, labels in series(text):
        family = re.sub(r"_(bucket|sum|count)$", "", name) if name not in named else name
        assert {label for label, _ in labels} - {"le"} == set(re.findall(r"`(\w+)`", named[family])), name
