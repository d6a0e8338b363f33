"""One running service for the quick forms: with the leads of the small champion, a registry of its own, and keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from clients import Running
from conftest import Registered
from doors import make_key
from predictive_scoring.keeping.store.opening import open_store
from services import serving
from stored_project import copied_store

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import SmallProject

CLIENTS = 8


@pytest.fixture(scope="session")
def running(
    small_champion: SmallProject, stored_champion: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """Tests share it: each writes under lead ids of its own, and leaves it serving some champion."""
    folder = tmp_path_factory.mktemp("running")
    world = Registered(small_champion, folder)
    store = open_store(copied_store(stored_champion, folder))
    # One more than there are clients, for whoever looks on.
    keys = tuple(make_key(store, ["admin"]) for _ in range(CLIENTS + 1))
    with serving(world.file, world.models, folder) as service:
        made = Running(service, world, store, keys)
        made.settle()
        yield made
    store.close()
