"""Promotions and rollbacks of several processes at once: one line of champions, and a named end for each.

Two promotions alone race in tests/unit/keeping/test_champion.py."""

from __future__ import annotations

import json
import os
import random
import secrets
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from predictive_scoring.live.champion import load_champion

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Registered

RACERS = """
import json, os, sys, time, traceback
from pathlib import Path

from predictive_scoring.errors import PredictiveScoringError
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.keeping.registry import Registry
# What would take seconds in each process.
import mlflow.store.model_registry.sqlalchemy_store, mlflow.store.tracking.sqlalchemy_store

folder, uri, out, *orders = sys.argv[1:]

def run(number, order):
    registry, store = Registry(uri), BundleStore(Path(folder))
    name, told = store.folder.name, {"asked": order}
    try:
        if order == "rollback":
            made = registry.rollback(store, name)
        else:
            # Judged against the first champion, and only one of them can follow it.
            made = registry.promote(store, registry.version(name, order), promoted_at="2026-08-01T00:00:00Z")
        told["version"] = made.version
    except PredictiveScoringError as refused:
        told |= {"error": refused.name, "what": refused.what}
    except BaseException:
        told["failed"] = traceback.format_exc()[-1000:]
    Path(out, f"{number}.json").write_text(json.dumps(told), "utf-8")

start, go = os.pipe()
for number, order in enumerate(orders):
    if os.fork() == 0:
        os.close(go)
        # All begin in the same moment: when the pipe's other end is closed.
        os.read(start, 1)
        run(number, order)
        os._exit(0)
os.close(go)
for _ in orders:
    os.wait()
"""


def _race(world: Registered, out: Path, orders: list[str]) -> list[dict[str, Any]]:
    """Processes that each promote a version or roll back, at once; how each ended."""
    out.mkdir(exist_ok=True)
    subprocess.run(
        [sys.executable, "-c", RACERS, world.store.folder, world.uri, out, *orders],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        timeout=240,
    )
    return [json.loads((out / f"{number}.json").read_text("utf-8")) for number in range(len(orders))]


def _is_whole(world: Registered) -> None:
    """Pointer and alias name the same version, its bundle serves, and nothing is left on the way."""
    champion = world.store.champion()
    assert load_champion(world.store).reference.version == champion.version == world.alias
    assert not world.store.pending()
    assert [path.name for path in world.store.folder.glob(".*") if path.name != ".lock"] == []


@pytest.mark.trial
@pytest.mark.timeout(1800)
def test_promotions_and_rollbacks_race_again_and_again(world: Registered, tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    chance, outcomes = random.Random(seed), Counter()
    for number in range(10):
        before = world.line
        versions = [world.add(f"{number} {racer}").version for racer in range(chance.randint(1, 3))]
        orders = versions + ["rollback"] * chance.randint(1, 2)
        ends = _race(world, tmp_path / str(number), orders)
        for end in ends:
            assert "failed" not in end, end
            assert end.get("error") in (None, "GateRefused", "UnknownModel"), end
        _is_whole(world)
        promoted = [end["asked"] for end in ends if "version" in end and end["asked"] != "rollback"]
        back = sum("version" in end for end in ends if end["asked"] == "rollback")
        # One line: as long as the moves that were told to have succeeded make it.
        assert len(world.line) == len(before) + len(promoted) - back
        assert set(world.line) <= {*before, *promoted}
        outcomes.update(end.get("error", "done") for end in ends)
    print(f"seed {seed}: {dict(outcomes)}")  # noqa: T201 - the finding
