"""A disk that is full, or that fails: named refusals, nothing half kept, and work goes on once it is mended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from serving.admission import AdmissionSettings

from clients import Caller, Running
from conftest import Registered
from disks import failing_fsync, fill_up, small_disk
from doors import Door, make_key
from ledger import Ledger
from predictive_scoring.errors import EnvironmentMissing, UnreadableFile
from predictive_scoring.keeping.store.histories import read_leads
from predictive_scoring.keeping.store.opening import open_store
from services import serving, until
from stored_project import sqlite_url

if TYPE_CHECKING:
    from conftest import SmallProject

PLENTY = AdmissionSettings(rate=1e6, burst=10**6)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 12) as folder:
        yield folder


def _batch(number: int) -> dict[str, Any]:
    """A batch that has no room where little is left."""
    return {
        "batch": [
            {
                "type": "track",
                "messageId": f"{number}-{place}",
                "userId": "L-1",
                "event": "pricing_view",
                "properties": {"padding": "x" * 2000},
            }
            for place in range(50)
        ]
    }


def _kept(store) -> set[str]:
    found = store.read(lambda tx: read_leads(tx, ["L-1"]))
    return {event.event_id for lead in found.values() for event in lead.events}


def test_a_full_disk_refuses_events_by_name_and_keeps_what_was_answered(
    disk: Path, small_champion: SmallProject
) -> None:
    store = open_store(sqlite_url(disk))
    door = Door(store, settings=PLENTY)
    door.app.state.serving.project = small_champion.loaded.project
    ballast = fill_up(disk, leave=2_000_000)
    statuses: list[int] = []
    while len(statuses) < 100 and 503 not in statuses:
        answer = door.ask("POST", "/v1/events", json=_batch(len(statuses)))
        statuses.append(answer.status_code)
    assert set(statuses[:-1]) == {200}
    refused = answer.json()
    assert (refused["name"], refused["detail"]) == ("StoreUnavailable", "the disk is full")
    assert int(answer.headers["retry-after"]) > 0
    answered = {f"{number}-{place}" for number in range(len(statuses) - 1) for place in range(50)}
    # Still full: refused again, and what was answered can be read.
    assert door.ask("POST", "/v1/events", json=_batch(len(statuses) - 1)).status_code == 503
    assert _kept(store) == answered
    ballast.unlink()
    assert door.ask("POST", "/v1/events", json=_batch(len(statuses) - 1)).json()["accepted"] == 50
    assert len(_kept(store)) == len(answered) + 50
    door.close()
    store.close()


def test_a_full_disk_refuses_bundles_and_promotions_by_name_and_the_champion_stays(
    disk: Path, small_champion: SmallProject
) -> None:
    world = Registered(small_champion, disk)
    version = world.add("to be promoted")
    fill_up(disk)
    with pytest.raises(UnreadableFile, match="cannot write the bundle: No space left on device"):
        world.add("no room for it")
    with pytest.raises(UnreadableFile, match="No space left on device"):
        world.promote(version)
    # Room for the pointer, and none for MLflow's journal.
    (disk / "ballast").unlink()
    ballast = fill_up(disk, leave=8192)
    with pytest.raises(EnvironmentMissing, match=r"MLflow cannot keep it: .*full"):
        world.promote(version)
    assert world.line == ["1"]
    assert world.alias == "1"
    ballast.unlink()
    assert world.promote(version).version == version.version == world.alias
    assert not world.store.pending()


STORING = """
import os, sys
from pathlib import Path

from predictive_scoring.errors import PredictiveScoringError
from predictive_scoring.keeping.champion import BundleStore, Promotion, Succession
from predictive_scoring.keeping.store.ingestion import ingest
from predictive_scoring.keeping.store.messages import Message
from predictive_scoring.keeping.store.opening import open_store

url, folder, sign = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
store, bundles, T = open_store(url), BundleStore(folder), 1_790_000_000

def tried(work):
    try:
        work()
    except PredictiveScoringError as refused:
        return f"{refused.name} {refused.what}"
    return "kept"

def both(number):
    event = Message(f"e{number}", T, T, "L-1", event_type="page_view")
    succession = Succession((Promotion(f"{number:016x}", str(number), "run", "2026-08-01T00:00:00Z"),))
    print(tried(lambda: store.write(lambda tx: ingest(tx, [event]))))
    print(tried(lambda: bundles.write_pointer(succession)))

both(1)
sign.touch()
both(2)
both(3)
sign.unlink()
both(4)
"""


def test_a_disk_that_fails_to_sync_refuses_by_name_and_nothing_of_it_is_kept(tmp_path: Path) -> None:
    more, sign = failing_fsync(tmp_path)
    url, folder = sqlite_url(tmp_path), tmp_path / "models"
    told = subprocess.run(
        [sys.executable, "-c", STORING, url, folder, sign],
        env={**os.environ, **more, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    refused = [
        "StoreUnavailable the disk cannot be read or written",
        "UnreadableFile cannot write the file: Input/output error",
    ]
    assert told.stdout.splitlines() == ["kept", "kept", *refused, *refused, "kept", "kept"], told.stderr
    store = open_store(url)
    assert _kept(store) == {"e1", "e4"}
    store.close()
    assert [path.name for path in folder.iterdir()] == ["champion.json"]


def _goes_on(ledger: Ledger) -> None:
    """Events are kept."""
    before = len(ledger.events)
    assert until(lambda: len(ledger.events) > before + 200)


def _refuses(ledger: Ledger) -> None:
    """Events are refused, for a while."""
    before = len(ledger.retried)
    assert until(lambda: len(ledger.retried) > before + 10, 60)
    time.sleep(1)


@pytest.mark.trial
@pytest.mark.timeout(900)
def test_a_service_on_a_disk_that_fills_and_fails_loses_nothing_and_recovers_by_itself(
    tmp_path: Path, small_champion: SmallProject
) -> None:
    more, sign = failing_fsync(tmp_path)
    with small_disk(tmp_path / "disk", 60) as disk:
        world = Registered(small_champion, tmp_path)
        url = sqlite_url(disk)
        more |= {"PREDICTIVE_SCORING_DATABASE_URL": url, "PREDICTIVE_SCORING_RATE": "2000"}
        with serving(world.file, world.models, tmp_path, environment=more) as service:
            store = open_store(url)
            running = Running(service, world, store, (make_key(store, ["admin"]),))
            running.settle()
            ledger = Ledger("disk", lambda: Caller(service.port, running.keys[0]))
            with ledger.written(clients=3):
                for _ in range(3):
                    _goes_on(ledger)
                    ballast = fill_up(disk, leave=100_000)
                    _refuses(ledger)
                    assert running.service.is_ready()
                    ballast.unlink()
                    _goes_on(ledger)
                    sign.touch()
                    _refuses(ledger)
                    sign.unlink()
            running.settle()
            print(ledger.judge(store))  # noqa: T201 - the finding
            store.close()
