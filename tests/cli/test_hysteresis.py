"""`score --previous`: a lead near the line keeps the side it was told, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from predictive_scoring.cli.app import app
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.scoring import champion_scorer


def score(champion, *more: str):
    given = ["--project", str(champion.file), "--models", str(champion.models)]
    return CliRunner().invoke(app, ["score", *given, *more])


def documents(path: Path) -> dict[str, dict]:
    return {one["lead_id"]: one for one in map(json.loads, path.read_text("utf-8").splitlines())}


@pytest.fixture(scope="module")
def plain(small_champion, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scores") / "plain.jsonl"
    assert score(small_champion, "--out", str(path)).exit_code == 0
    return path


def test_leads_near_the_line_keep_their_side_and_others_do_not(
    small_champion, plain: Path, tmp_path: Path
) -> None:
    now = {lead: one for lead, one in documents(plain).items() if one["status"] == "scored"}
    store = BundleStore(small_champion.models / small_champion.loaded.project.name)
    line = champion_scorer(store).scoring.grading.ready_probability
    flip = {"ready": "nurture", "nurture": "ready"}
    told = pd.DataFrame(
        {
            "lead_id": list(now),
            "as_of": "2020-01-01T00:00:00Z",
            "readiness": [flip[one["readiness"]] for one in now.values()],
        }
    )
    told.to_csv(tmp_path / "yesterday.csv", index=False)
    out = tmp_path / "today.jsonl"
    assert (
        score(small_champion, "--previous", str(tmp_path / "yesterday.csv"), "--out", str(out)).exit_code == 0
    )
    after = {lead: one for lead, one in documents(out).items() if one["status"] == "scored"}
    for lead, one in now.items():
        near = 0.9 * line <= one["probability"] < 1.1 * line
        assert after[lead]["readiness"] == (flip[one["readiness"]] if near else one["readiness"])
        for same in ("probability", "score", "grade", "explanation", "reasons", "trend"):
            assert after[lead][same] == one[same]
        assert (after[lead]["actions_reason"] == "ready") == (after[lead]["readiness"] == "ready")


def test_its_own_scores_change_nothing(small_champion, plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.jsonl"
    assert score(small_champion, "--previous", str(plain), "--out", str(out)).exit_code == 0
    assert documents(out) == documents(plain)


def test_scores_of_a_later_instant_are_refused(small_champion, plain: Path) -> None:
    answer = score(small_champion, "--previous", str(plain), "--as-of", "2020-01-01T00:00:00Z", "--json")
    assert answer.exit_code == 2
    assert json.loads(answer.stdout)["error"] == "InvalidSetting"
