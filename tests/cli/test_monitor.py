"""`monitor` and `recalibrate` through the command line: what they print, write, record, and their exit codes."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from predictive_scoring.cli.app import app
from predictive_scoring.data.simulator import CONVERSION
from predictive_scoring.keeping.bundle import read_bundle, write_bundle
from predictive_scoring.monitoring import CODES


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def own(small_champion, world, tmp_path):
    """Project file and options of a champion, tables and registry that a test may change."""
    for name in ("scoring.yaml", "playbook.yaml"):
        shutil.copy(small_champion.folder / name, tmp_path / name)
    shutil.copytree(small_champion.folder / "tables", tmp_path / "tables")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET artifact_location = ?", [(tmp_path / "artifacts").as_uri()])
    return ("--project", tmp_path / "scoring.yaml", "--models", world.models), tmp_path


def test_monitor_prints_for_people_and_writes_a_page_that_needs_no_network(own):
    options, folder = own
    quiet = call("monitor", *options, "--no-log", "--report", folder / "page.html")
    assert quiet.exit_code in (0, 3), quiet.output
    assert "Known outcomes" in quiet.stdout
    assert "alarm" in quiet.stdout
    page = (folder / "page.html").read_text("utf-8")
    assert "<svg" in page
    assert "What became of the scores" in page
    assert not [
        mark
        for mark in ("http://", "https://", "<script", "@import")
        if mark in page.replace("http://www.w3.org", "")
    ]


def test_a_broken_source_exits_with_3_and_is_recorded_in_mlflow(own, world):
    options, folder = own
    leads = pd.read_parquet(folder / "tables" / "leads.parquet")
    leads["industry"] = leads["industry"].astype(object).where(leads.index < 100, None)
    leads["source"] = "<b>made & up</b>"
    leads.to_parquet(folder / "tables" / "leads.parquet", index=False)
    told = call("monitor", *options, "--tracking-uri", world.uri, "--json")
    assert told.exit_code == 3, told.output
    document = json.loads(told.stdout)
    found = {(alarm["code"], alarm["where"]) for alarm in document["alarms"]}
    assert {("MO102", "feature industry"), ("MO103", "feature source")} <= found
    assert all(alarm["remedy"] and alarm["action"] == CODES[alarm["code"]][1] for alarm in document["alarms"])

    run = world.client.get_run(document["run_id"])
    assert run.info.run_name == f"monitor {world.name}"
    assert run.info.status == "FINISHED"
    assert run.data.metrics["alarms"] == len(document["alarms"])
    assert "MO102" in run.data.tags["alarms"]
    (page,) = world.client.list_artifacts(run.info.run_id)
    assert page.path == "monitoring.html"
    text = Path(world.client.download_artifacts(run.info.run_id, page.path)).read_text("utf-8")
    assert "&lt;b&gt;made &amp; up" in text
    assert "<b>made" not in text


def test_a_champion_whose_level_is_off_is_recalibrated_judged_and_promoted(own, world):
    options, folder = own
    everything = (*options, "--tracking-uri", world.uri)
    first = world.store.champion()
    bundle = read_bundle(world.store.path(first.bundle))
    # A champion of long ago, whose probabilities are a ninth of what they should be.
    model = json.loads(bundle.files["model.json"])
    model["calibration"]["intercept"] -= 2.2
    metrics = json.loads(bundle.files["metrics.json"])
    metrics["periods"]["train"]["last_cutoff"] = "2025-03-01T00:00:00Z"
    metrics["periods"]["calibrate"]["last_cutoff"] = "2025-03-01T00:00:00Z"
    metrics["periods"]["test"]["last_cutoff"] = "2025-04-01T00:00:00Z"
    stale = write_bundle(
        world.store.bundles,
        {**bundle.files, "model.json": json.dumps(model), "metrics.json": json.dumps(metrics)},
        {"data_hash": "0" * 64},
    )
    made = world.client.create_model_version(
        world.name,
        str(stale.path),
        run_id=first.run_id,
        tags={"bundle": stale.identity, "verdict": "validated"},
    )
    world.promote(world.registry.version(world.name, str(made.version)), override="a stale champion")

    alarmed = call("monitor", *options, "--no-log", "--json")
    assert alarmed.exit_code == 3, alarmed.output
    document = json.loads(alarmed.stdout)
    assert "MO105" in {alarm["code"] for alarm in document["alarms"]}
    assert document["proposal"]["helps"]

    told = call("recalibrate", *everything, "--json")
    assert told.exit_code == 0, told.output
    kept = json.loads(told.stdout)
    assert kept["verdict"] == "validated"
    assert kept["recalibration"]["shift"] == pytest.approx(document["proposal"]["shift"])
    mended = read_bundle(world.store.path(kept["model"]["bundle"]))
    assert mended.files["model.txt"] == bundle.files["model.txt"]
    assert mended.manifest["recalibrated_from"] == stale.identity
    assert "## Recalibrated" in mended.files["model_card.md"]
    assert world.client.get_run(kept["run_id"]).info.run_name == f"recalibrate {world.name}"

    promoted = call(
        "promote",
        "--project",
        folder / "scoring.yaml",
        "--models",
        world.models,
        "--tracking-uri",
        world.uri,
        "--json",
    )
    assert promoted.exit_code == 0, promoted.output
    assert json.loads(promoted.stdout)["champion"]["version"] == kept["model"]["version"]
    after = json.loads(call("monitor", *options, "--no-log", "--json").stdout)
    assert "MO105" not in {alarm["code"] for alarm in after["alarms"]}


def test_recalibrate_refuses_where_too_few_outcomes_are_known(own, world):
    options, folder = own
    events = pd.read_parquet(folder / "tables" / "events.parquet")
    late = events["occurred_at"] >= pd.Timestamp("2026-02-01", tz="UTC")
    few = (events["event_type"] == CONVERSION) & late & (events.index % 4 > 0)
    events[~few].to_parquet(folder / "tables" / "events.parquet", index=False)
    refused = call("recalibrate", *options, "--tracking-uri", world.uri, "--json")
    assert refused.exit_code == 2, refused.output
    assert json.loads(refused.stdout)["error"] == "TrainingImpossible"
