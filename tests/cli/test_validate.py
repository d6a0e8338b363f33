"""`validate` answers with its exit code, names what is set aside, and writes the report where it is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from predictive_scoring.cli.app import app

PROJECT = """
name: rows
sources: {snapshot: {path: rows.parquet}}
observed_until: 2026-01-01T00:00:00Z
conversion: {column: won, positive: "1", horizon: 30d}
attributes: {size: {type: number, label: Size}, note: {type: category, label: Note}}
leaks: {stage: "written by sales [after] the deal"}
readiness: {share: 0.1}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    won = rng.random(800) < 0.3
    frame = pd.DataFrame(
        {"won": won.astype(int), "size": rng.normal(size=800), "note": np.where(won, "signed", "open")}
    )
    frame.to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "scoring.yaml").write_text(PROJECT, "utf-8")
    return tmp_path


def call(verb: str, folder: Path, *more: str):
    return CliRunner().invoke(app, [verb, "--project", str(folder / "scoring.yaml"), *more])


def test_suspected_leaks_exit_3_and_stop_training_alike(folder: Path) -> None:
    answer = call("validate", folder, "--json")
    assert answer.exit_code == 3
    document = json.loads(answer.stdout)
    assert not document["ready_to_train"]
    assert document["set_aside"] == {"stage": "written by sales [after] the deal"}
    first = document["leaks"][0]
    assert (first["code"], first["feature"], first["verdict"]) == ("PS130", "note", "refused")
    trained = call(
        "train", folder, "--models", str(folder), "--tracking-uri", f"sqlite:///{folder}/m.db", "--json"
    )
    assert trained.exit_code == 3
    assert json.loads(trained.stdout)["error"] == "LeakSuspected"
    assert not (folder / "m.db").exists()


def test_waived_leaks_exit_0_and_are_still_told(folder: Path) -> None:
    waivers = "".join(
        f"  - {{code: {code}, feature: note, reason: stood on the first form}}\n"
        for code in ("PS130", "PS134")
    )
    (folder / "scoring.yaml").write_text(PROJECT + "waivers:\n" + waivers, "utf-8")
    answer = call("validate", folder)
    assert answer.exit_code == 0
    for told in ("PS130", "stood on the first", "set aside", "[after]", "ready to train"):
        assert told in answer.stdout


def test_bad_data_exit_2_even_beside_a_leak(folder: Path) -> None:
    frame = pd.read_parquet(folder / "rows.parquet")
    frame["won"] = 0
    frame["deal"] = "x"
    frame.to_parquet(folder / "rows.parquet")
    (folder / "scoring.yaml").write_text(
        PROJECT.replace("attributes: {", "attributes: {deal: {type: category, label: Deal}, "), "utf-8"
    )
    answer = call("validate", folder, "--json")
    assert answer.exit_code == 2
    codes = {finding["code"] for finding in json.loads(answer.stdout)["findings"]}
    assert {"PS101", "PS131"} <= codes


def test_the_report_is_written_whatever_the_verdict(folder: Path) -> None:
    target = folder / "report.html"
    answer = call("validate", folder, "--report", str(target), "--json")
    assert answer.exit_code == 3
    assert json.loads(answer.stdout)["report"] == str(target)
    assert target.read_text("utf-8").startswith("<!doctype html>")
    refused = call("validate", folder, "--report", str(folder / "nowhere" / "report.html"))
    assert refused.exit_code == 2
    assert "UnreadableFile" in refused.stderr
