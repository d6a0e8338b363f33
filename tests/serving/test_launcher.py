"""The real thing: `serve` as a process, its workers, a port, signals, and nothing left behind.

What happens when its processes are killed is in tests/faults/test_service_kill.py."""

from __future__ import annotations

import json
import signal

import pytest

from predictive_scoring.cli.processes import wait_before_restart
from predictive_scoring.cli.serving import Plan, serve
from predictive_scoring.errors import InvalidSetting, PortInUse, UnknownModel
from predictive_scoring.keeping.store.keys import create_key
from predictive_scoring.keeping.store.opening import open_store
from services import is_free, launched, score_body, serving, until

NOW = 1_800_000_000


@pytest.mark.slow
def test_it_serves_answers_a_crm_and_stops_when_told(small_champion, tmp_path):
    environment = {"PREDICTIVE_SCORING_LOG": "json"}
    with serving(
        small_champion.file, small_champion.models, tmp_path, "--no-worker", environment=environment
    ) as service:
        assert f"http://127.0.0.1:{service.port}" in service.said
        assert "/v1/score" in service.said
        # Ours answer, not those of BentoML.
        assert json.loads(service.ask("/readyz")[1])["status"] == "ready"
        assert service.ask("/livez")[:2] == (200, b"ok\n")
        assert b"Who to work today" in service.ask("/")[1], service.said
        for path in ("/healthz", "/docs.json", "/schema.json", "/static_content/index.css"):
            assert service.ask(path)[0] == 404, path
        told = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        status, body, headers = service.ask("/v1/score", score_body(), told)
        (score,) = json.loads(body)["scores"]
        assert status == 200
        assert 0 < score["probability"] < 1
        assert headers["x-request-id"] == "0af7651916cd43dd8448eb211c80319c"
        _, metrics, _ = service.ask("/metrics")
        assert b"predictive_scoring_ready 1.0" in metrics
        for name in ("api-1", "launcher"):
            assert f'predictive_scoring_process_resident_bytes{{process="{name}"}}'.encode() in metrics
        plan = Plan(small_champion.file, small_champion.models, port=service.port)
        with pytest.raises(PortInUse, match=f"{service.port}.*--port"):
            serve(plan)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(40) == 0
        (line,) = [one for one in service.lines if one.get("request_id") == headers["x-request-id"]]
    assert (line["route"], line["status"], line["key"]) == ("/v1/score", 200, "local")
    assert "bar-0" not in service.said
    assert until(lambda: is_free(service.port))


@pytest.mark.slow
def test_a_public_service_is_asked_by_its_name_with_a_key(small_champion, tmp_path):
    address = f"sqlite:///{tmp_path / 'store.db'}"
    store = open_store(address)
    _, key = store.write(lambda tx: create_key(tx, "CRM", ["admin"], now=NOW))
    store.close()
    options = ("--no-worker", "--host", "0.0.0.0", "--allow-host", "crm.example.com", "--workers", "2")  # noqa: S104
    with serving(small_champion.file, small_champion.models, tmp_path, *options) as service:
        assert service.ask("/v1/model", headers={"host": "crm.example.com"})[0] == 401
        held = {"host": "crm.example.com", "authorization": f"Bearer {key}"}
        assert service.ask("/v1/model", headers=held)[0] == 200
        assert service.ask("/v1/model", headers={**held, "host": "evil.example"})[0] == 421
        # Both workers count into the same series.
        counts = set()
        for _ in range(12):
            _, text, _ = service.ask("/metrics", headers=held)
            counts.add(text.count(b'route="/v1/model",status="200"'))
        assert counts == {1}
        assert {"api-1", "api-2"} == set(service.children)


@pytest.mark.slow
def test_a_service_that_cannot_load_ends_the_launcher_with_its_reason(small_champion, tmp_path):
    broken = tmp_path / "scoring.yaml"
    broken.write_text(
        small_champion.file.read_text("utf-8").replace("leads.parquet", "nowhere.parquet"), "utf-8"
    )
    with launched(broken, small_champion.models, tmp_path) as service:
        assert service.process.wait(120) == 2
        assert "UnreadableFile" in service.said
        assert "nowhere.parquet" in service.said
        assert not service.children
    assert until(lambda: is_free(service.port))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5"])  # noqa: S104
def test_nobody_else_reaches_it_without_a_name(small_champion, host):
    with pytest.raises(InvalidSetting, match="--allow-host"):
        serve(Plan(small_champion.file, small_champion.models, host=host))


@pytest.mark.parametrize("host", ["example.com", "", "300.1.1.1"])
def test_only_addresses_of_this_machine_are_bound(small_champion, host):
    with pytest.raises(InvalidSetting, match="--host"):
        serve(Plan(small_champion.file, small_champion.models, host=host, hosts=("a.example",)))


def test_nobody_else_reaches_it_without_a_key(small_champion, tmp_path):
    plan = Plan(
        small_champion.file,
        small_champion.models,
        host="0.0.0.0",  # noqa: S104
        hosts=("crm.example.com",),
        database=f"sqlite:///{tmp_path / 'store.db'}",
    )
    with pytest.raises(InvalidSetting, match="keys create"):
        serve(plan)


@pytest.mark.parametrize("name", ["https://crm.example.com", "crm example", "a,b", ""])
def test_a_host_name_is_a_name(small_champion, name):
    with pytest.raises(InvalidSetting, match="--allow-host"):
        serve(Plan(small_champion.file, small_champion.models, host="0.0.0.0", hosts=(name,)))  # noqa: S104


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "301"])
def test_a_time_to_drain_is_a_number(small_champion, monkeypatch, text):
    monkeypatch.setenv("PREDICTIVE_SCORING_DRAIN_SECONDS", text)
    with pytest.raises(InvalidSetting, match="DRAIN_SECONDS"):
        serve(Plan(small_champion.file, small_champion.models))


def test_without_a_champion_nothing_starts(small_champion, tmp_path):
    plan = Plan(small_champion.file, tmp_path, database=f"sqlite:///{tmp_path / 'store.db'}", port=0)
    with pytest.raises(UnknownModel, match="promote"):
        serve(plan)


def test_restarts_wait_longer_and_longer_but_never_long():
    assert [wait_before_restart(failures, 0.0) for failures in range(1, 9)] == [0, 1, 2, 4, 8, 16, 30, 30]
    assert [wait_before_restart(failures, 1.0) for failures in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
