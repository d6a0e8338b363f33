"""`plan` answers with the line, what lies above it and what moving it brings; what cannot be planned is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from predictive_scoring.cli.app import app


def call(champion, *more: str, file: Path | None = None):
    given = ["--project", str(file or champion.file), "--models", str(champion.models)]
    return CliRunner().invoke(app, ["plan", *given, *more])


def test_people_read_a_sentence_and_a_table(small_champion) -> None:
    answer = call(small_champion, "--capacity", "5")
    assert answer.exit_code == 0
    assert answer.stdout.startswith("Work every lead with a score of ")
    assert "In 9 of 10 weeks" in answer.stdout
    assert "now" in answer.stdout


def test_programs_read_the_same_numbers_as_one_document(small_champion) -> None:
    document = json.loads(call(small_champion, "--capacity", "5", "--json").stdout)
    here = document["here"]
    assert here["low"] <= here["conversions"] <= here["high"]
    assert 0 <= here["week_low"] <= here["week_high"]
    assert here["leads"] == pytest.approx(5, abs=7 / 90 * 1.01)
    assert [move["factor"] for move in document["moves"]] == [0.5, 0.75, 1.25, 1.5, 2.0]
    assert f"score of {here['score']} or more" in document["sentence"]


def test_money_is_planned_where_it_is_declared_and_capacity_must_be_told(
    small_champion, tmp_path: Path
) -> None:
    declared = yaml.safe_load(small_champion.file.read_text("utf-8"))
    declared["data_root"] = str(small_champion.file.parent)
    declared.pop("playbook", None)
    declared["readiness"] = {"value_per_win": 900.0, "win_rate": 0.25, "cost_per_lead": 10.0}
    (tmp_path / "scoring.yaml").write_text(yaml.safe_dump(declared), "utf-8")
    untold = call(small_champion, "--json", file=tmp_path / "scoring.yaml")
    assert untold.exit_code == 2
    assert json.loads(untold.stdout)["error"] == "InvalidSetting"
    told = json.loads(
        call(small_champion, "--json", "--capacity", "5", file=tmp_path / "scoring.yaml").stdout
    )
    here = told["here"]
    assert here["profit"] == pytest.approx(225 * here["conversions"] - 10 * here["leads"])
