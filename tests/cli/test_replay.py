"""`replay` through the command line: what `score` kept comes out again, or exit 3 with the feature's name."""

import json
import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner

from predictive_scoring.cli.app import app
from predictive_scoring.keeping.vectors import FOLDER, VectorLog


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def own(small_champion, tmp_path):
    """Options for a copy of the champion and its tables that a test may change; the folder of the copy."""
    folder = tmp_path / "project"
    shutil.copytree(small_champion.folder, folder)
    shutil.rmtree(folder / "models" / small_champion.loaded.project.name / FOLDER, ignore_errors=True)
    return ("--project", folder / "scoring.yaml", "--models", folder / "models"), folder


def test_what_score_kept_replays_and_a_changed_table_is_refused_by_name(own, small_champion):
    options, folder = own
    leads = small_champion.tables.leads["lead_id"].tolist()
    assert call("score", *options, "--json", "--keep-vectors", "0.3").exit_code == 0
    log = VectorLog(folder / "models" / small_champion.loaded.project.name / FOLDER)
    among = log.count()
    assert 0.15 * len(leads) < among < 0.4 * len(leads)
    assert call("score", *options, "--json", "--lead", leads[0], "--keep-vectors", "1").exit_code == 0

    clean = call("replay", *options)
    assert clean.exit_code == 0, clean.output
    assert "exactly as served" in clean.stdout
    document = json.loads(call("replay", *options, "--json").stdout)
    assert document["clean"]
    assert document["stored"]["vectors"] + document["not_compared"]["repeated"] == log.count() > among

    file = folder / "tables" / "leads.parquet"
    table = pd.read_parquet(file)
    table["country"] = "Atlantis"
    table.to_parquet(file, index=False)
    refused = call("replay", *options)
    assert refused.exit_code == 3
    assert "country" in refused.stdout
    assert "batch Atlantis (mismatch)" in refused.stdout
    told = call("replay", *options, "--json")
    assert told.exit_code == 3
    document = json.loads(told.stdout)
    assert not document["clean"]
    assert document["stored"]["features"]["country"]["match"] == 0
    wrong = {n for n, counts in document["stored"]["features"].items() if counts["mismatch"]}
    assert wrong == {"country"}


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ((), "UnreadableFile"),
        (("--since", "2026-01-01", "--until", "2026-01-02"), "UnreadableFile"),
        (("--since", "yesterday"), "InvalidSetting"),
        (("--until", "2026-02-30"), "InvalidSetting"),
    ],
)
def test_nothing_to_replay_and_a_day_that_is_none_are_named(small_champion, tmp_path, more, named):
    answer = call("replay", "--project", small_champion.file, "--models", tmp_path, *more, "--json")
    assert answer.exit_code == 2
    assert json.loads(answer.stdout)["error"] == named
