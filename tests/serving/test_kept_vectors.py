"""A service keeps a sample of what it served, and `replay` finds it again in the tables; scores never suffer."""

import logging
import shutil
import time

import pytest
from serving.state import ServingState

from predictive_scoring.keeping.vectors import FOLDER, VectorLog
from predictive_scoring.replay import bundle_features, replay
from predictive_scoring.timeline import DAY, format_instant
from stored_project import copied_store, listed, stored_until

LEAD = {
    "lead_id": "bar-1",
    "created_at": "2026-01-05T09:00:00Z",
    "attributes": {"country": "DE", "time_zone": "Europe/Vaduz", "email": "jane@secrets.example"},
    "events": [{"event_id": "1", "event_type": "pricing_view", "occurred_at": "2026-02-01T10:00:00Z"}],
}


def post(client, leads, as_of=None):
    answer = client.post("/v1/score", json={"leads": leads, "as_of": as_of})
    assert answer.status_code == 200, answer.text
    return answer.json()


def metric(client, outcome):
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(f'predictive_scoring_vectors_total{{outcome="{outcome}"}}'):
            return float(line.split()[-1])
    return 0.0


@pytest.fixture
def keeping(small_champion, stored_champion, tmp_path, application):
    """A running application that keeps every vector, its log, and what it serves."""
    models = tmp_path / "models"
    shutil.copytree(small_champion.models, models)
    shutil.rmtree(models / small_champion.loaded.project.name / FOLDER, ignore_errors=True)
    database = copied_store(stored_champion, tmp_path / "store")
    state = ServingState(small_champion.file, models, keep_vectors=1.0, database=database)
    log = VectorLog(models / small_champion.loaded.project.name / FOLDER)
    with application(state) as client:
        until = time.monotonic() + 120
        while state.serving is None:
            assert state.failure is None, state.failure
            assert time.monotonic() < until
            time.sleep(0.05)
        yield client, log, state.serving


def test_what_a_running_service_served_is_read_again_by_batch(keeping, small_champion):
    client, log, serving = keeping
    wanted = [{"lead_id": row.lead_id} for row in listed(serving) if row.status == "scored"][::10]
    earlier = format_instant(stored_until(serving) - 20 * DAY)
    scored = [one for as_of in (None, earlier) for one in post(client, wanted, as_of)["scores"]]
    post(client, [LEAD], "2026-02-10T00:00:00Z")
    # Beyond the end of the history: what arrives until then will rightly change it.
    post(client, wanted[:3], format_instant(stored_until(serving) + DAY))
    kept = list(log.read())
    assert len(kept) == metric(client, "kept")
    with_score = [(one["lead_id"], one["as_of"]) for one in scored if one["status"] == "scored"]
    assert [(v.lead_id, format_instant(v.as_of)) for v in kept if v.source == "stored"] == with_score
    (body,) = (vector for vector in kept if vector.source == "body")
    assert body.lead_id == "bar-1"
    assert body.values["pricing_view_count_30d"] == 1.0
    # What the model does not read is nowhere.
    text = "".join(file.read_text("utf-8") for file in log.files())
    assert '"country":"DE"' in text
    assert all(word not in text for word in ("Vaduz", "secrets", 'email"', "consent"))
    features_of = bundle_features(small_champion.store)
    found = replay(log.read(), small_champion.tables, features_of)
    assert found.is_clean
    assert found.stored.vectors + found.repeated == len(with_score)
    assert (found.not_in_tables, found.torn) == (1, 0)


def test_a_disk_that_refuses_costs_no_score_and_is_told_once(keeping, caplog):
    client, log, serving = keeping
    wanted = [{"lead_id": row.lead_id} for row in listed(serving) if row.status == "scored"][:5]
    first = post(client, wanted)
    for file in log.files():
        file.unlink()
        file.symlink_to("/dev/full")
    with caplog.at_level(logging.WARNING, "predictive_scoring.serving"):
        assert post(client, wanted) == first
        assert post(client, wanted) == first
    assert metric(client, "lost") == 10
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "No space" in told[0]
    assert not any(lead["lead_id"] in told[0] for lead in wanted)


def test_a_service_that_is_not_told_to_keeps_nothing(client):
    post(client, [LEAD], "2026-02-10T00:00:00Z")
    assert metric(client, "kept") == 0
