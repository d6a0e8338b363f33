"""One champion, the same scores on every engine, through the library and through the command line."""

from __future__ import annotations

import json
import math
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from predictive_scoring.cli.app import app
from predictive_scoring.data.engines import Engine
from predictive_scoring.data.sources import open_tables

if TYPE_CHECKING:
    from conftest import SmallProject

LEADS = 200


def flat(document: Any) -> dict[tuple[Any, ...], Any]:
    """Every leaf of a JSON document by its path."""
    if isinstance(document, dict):
        parts = document.items()
    elif isinstance(document, list | tuple):
        parts = enumerate(document)
    else:
        return {(): document}
    return {(key, *path): leaf for key, part in parts for path, leaf in flat(part).items()}


def assert_alike(found: Any, wanted: Any) -> None:
    """Equal documents, but for the last digits of numbers."""
    one, other = flat(found), flat(wanted)
    assert one.keys() == other.keys()
    for path, leaf in other.items():
        if isinstance(leaf, float):
            assert math.isclose(one[path], leaf, rel_tol=1e-9, abs_tol=1e-9), path
        else:
            assert one[path] == leaf, path


@pytest.fixture(scope="module")
def expected(small_champion: SmallProject) -> list[dict[str, Any]]:
    scores = small_champion.scorer.score_tables(small_champion.tables, small_champion.as_of, chunk=LEADS)
    return [score.model_dump(mode="json") for score in islice(scores, LEADS)]


def test_scores_are_the_same_on_every_engine(
    engine: Engine, small_champion: SmallProject, expected: list[dict[str, Any]]
) -> None:
    tables = open_tables(small_champion.loaded, engine)
    assert tables.observed_until == small_champion.as_of
    scores = small_champion.scorer.score_tables(tables, small_champion.as_of, chunk=LEADS)
    for score, wanted in zip(islice(scores, LEADS), expected, strict=True):
        assert_alike(score.model_dump(mode="json"), wanted)
    assert sum(document["status"] == "scored" for document in expected) > LEADS / 2


def test_the_command_line_scores_on_postgres(
    dsn: str, small_champion: SmallProject, expected: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREDICTIVE_SCORING_DSN", dsn)
    wanted = expected[:3]
    leads = [argument for document in wanted for argument in ("--lead", document["lead_id"])]
    options = ["--project", str(small_champion.file), "--models", str(small_champion.models)]
    answer = CliRunner().invoke(app, ["score", *options, *leads, "--engine", "postgres", "--json"])
    assert answer.exit_code == 0, answer.output
    assert_alike(json.loads(answer.stdout)["scores"], wanted)


@pytest.mark.parametrize(
    ("engine", "dsn", "code"),
    [("mysql", "", 2), ("postgres", "", 2), ("postgres", "postgresql://nobody:secret@127.0.0.1:1/none", 4)],
)
def test_the_command_line_refuses_an_engine_that_is_not_there(
    small_champion: SmallProject, engine: str, dsn: str, code: int
) -> None:
    options = ["--project", str(small_champion.file), "--engine", engine, "--dsn", dsn]
    answer = CliRunner().invoke(app, ["validate", *options])
    assert answer.exit_code == code
    assert "to do:" in answer.stderr
    assert "secret" not in answer.output
