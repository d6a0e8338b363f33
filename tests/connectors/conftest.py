"""A clock that only sleeping moves, and a CRM for each test."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from crm_servers import Clock, Hubspot, Salesforce


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: a pull waits for the disk after every page, and these are many."""
    memory = Path("/dev/shm")  # noqa: S108  a folder of its own below it
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hubspot() -> Iterator[Hubspot]:
    server = Hubspot()
    yield server
    server.close()
    assert server.wrong == []


@pytest.fixture
def salesforce() -> Iterator[Salesforce]:
    server = Salesforce()
    yield server
    server.close()
    assert server.wrong == []
