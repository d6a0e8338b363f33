"""Scoring as one Spark job gives what DuckDB gives, and its output is complete or not there."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from predictive_scoring.cli.app import app
from predictive_scoring.data.engines import Engine
from predictive_scoring.data.sinks import FLAT_SCHEMA, write_scores
from predictive_scoring.data.sources import Tables, open_tables
from predictive_scoring.errors import CorruptBundle, EnvironmentMissing, UnreadableFile
from predictive_scoring.schema import Score
from predictive_scoring.spark_scoring import Written, score_on_spark
from spark_kills import draft_of, has_part, rows_of, score_until

if TYPE_CHECKING:
    from conftest import SmallProject

pytestmark = pytest.mark.engine


@dataclass(frozen=True)
class Run:
    """An undisturbed run: what it said, and what it wrote."""

    written: Written
    rows: pd.DataFrame


@pytest.fixture(scope="module")
def stored(spark: Engine, small_champion: SmallProject) -> Tables:
    """The small champion's tables on Spark."""
    return open_tables(small_champion.loaded, spark)


@pytest.fixture(scope="module")
def undisturbed(
    stored: Tables, small_champion: SmallProject, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    out = tmp_path_factory.mktemp("undisturbed") / "scores.parquet"
    scorer = small_champion.scorer
    bundle = small_champion.store.path(scorer.identity)
    written = score_on_spark(scorer, bundle, stored, small_champion.as_of, out)
    return Run(written, rows_of(out))


@pytest.fixture(scope="module")
def expected(small_champion: SmallProject) -> list[Score]:
    """The same by DuckDB."""
    return [*small_champion.scorer.score_tables(small_champion.tables, small_champion.as_of)]


def leaves(document: Any) -> tuple[list[Any], list[float]]:
    """A document without its fractions, and these."""
    if isinstance(document, float):
        return ["fraction"], [document]
    if isinstance(document, dict | list):
        pairs = document.items() if isinstance(document, dict) else enumerate(document)
        several = [(key, leaves(part)) for key, part in pairs]
        return [(key, rest) for key, (rest, _) in several], [one for _, (_, some) in several for one in some]
    return [document], []


def test_the_rows_are_those_of_duckdb(undisturbed: Run, expected: list[Score], tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.parquet", expected)
    wanted = pd.read_parquet(tmp_path / "scores.parquet")
    found = undisturbed.rows
    assert [*found.columns] == [*wanted.columns, "document"] == [*FLAT_SCHEMA.names, "document"]
    pd.testing.assert_frame_equal(found[wanted.columns], wanted, rtol=1e-9, atol=1e-9)
    for text, score in zip(found["document"], expected, strict=True):
        rest, fractions = leaves(json.loads(text))
        wanted_rest, wanted_fractions = leaves(score.model_dump(mode="json"))
        assert rest == wanted_rest
        assert fractions == pytest.approx(wanted_fractions, rel=1e-9, abs=1e-9)


def test_leads_without_a_score_carry_their_status(undisturbed: Run) -> None:
    rows, written = undisturbed.rows, undisturbed.written
    counted = rows.groupby(["status", "status_reason"], dropna=False).size()
    assert {(status, None if pd.isna(reason) else reason): n for (status, reason), n in counted.items()} == (
        written.statuses
    )
    assert {"scored", "suppressed", "not_scored"} == {status for status, _ in written.statuses}
    refused = rows[rows["status"] != "scored"]
    assert refused["status_reason"].notna().all()
    assert refused[["probability", "score", "grade", "readiness"]].isna().all().all()
    assert written.rows == len(rows)


def test_what_is_written_is_in_the_order_of_leads(undisturbed: Run, small_champion: SmallProject) -> None:
    parts = sorted(undisturbed.written.path.glob("part-*.parquet"))
    assert len(parts) == undisturbed.written.parts == 2
    assert undisturbed.rows["lead_id"].tolist() == sorted(small_champion.tables.leads["lead_id"])


@pytest.mark.trial
def test_killed_halfway_and_run_again_it_gives_the_same(
    undisturbed: Run, small_champion: SmallProject, tmp_path: Path
) -> None:
    out = tmp_path / "scores.parquet"
    assert score_until(small_champion, out, lambda: has_part(out))
    assert not out.exists()
    assert draft_of(out).exists()
    options = ["--project", str(small_champion.file), "--models", str(small_champion.models)]
    answer = CliRunner().invoke(app, ["score", *options, "--engine", "spark", "--out", str(out), "--json"])
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert (told["rows"], told["parts"]) == (undisturbed.written.rows, undisturbed.written.parts)
    pd.testing.assert_frame_equal(rows_of(out), undisturbed.rows, check_exact=True)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".log"] == [out.name]


@pytest.mark.trial
def test_a_changed_bundle_is_refused_here_and_on_an_executor(
    undisturbed: Run, stored: Tables, small_champion: SmallProject, tmp_path: Path
) -> None:
    from pyspark import SparkFiles

    scorer, as_of = small_champion.scorer, small_champion.as_of
    bundle, out = small_champion.store.path(scorer.identity), tmp_path / "scores.parquet"
    shutil.copytree(undisturbed.written.path, out)
    mine = shutil.copytree(bundle, tmp_path / "bundle")
    (mine / "grading.json").write_text("{}", "utf-8")
    with pytest.raises(CorruptBundle, match=r"grading\.json"):
        score_on_spark(scorer, mine, stored, as_of, out)
    # What the executors were sent is checked as well; under another version they look at it again.
    sent = Path(SparkFiles.get(f"bundle-{bundle.name}"), "grading.json")
    text = sent.read_text("utf-8")
    sent.write_text("{}", "utf-8")
    try:
        with pytest.raises(CorruptBundle, match=r"grading\.json") as refused:
            score_on_spark(replace(scorer, version="changed"), bundle, stored, as_of, out)
    finally:
        sent.write_text(text, "utf-8")
    assert refused.value.where == str(sent)
    pd.testing.assert_frame_equal(rows_of(out), undisturbed.rows, check_exact=True)
    assert not draft_of(out).exists()


@pytest.mark.trial
def test_a_failure_of_spark_is_told_in_a_line(
    undisturbed: Run, stored: Tables, small_champion: SmallProject, tmp_path: Path
) -> None:
    scorer = small_champion.scorer
    bundle = small_champion.store.path(scorer.identity)
    with pytest.raises(UnreadableFile, match="no such folder"):
        score_on_spark(scorer, bundle, stored, small_champion.as_of, tmp_path / "none" / "scores.parquet")
    # No year has that many digits, which only an executor finds out.
    with pytest.raises(EnvironmentMissing) as refused:
        score_on_spark(scorer, bundle, stored, 10**15, tmp_path / "scores.parquet")
    assert "\n" not in refused.value.what
    assert "Error" in refused.value.what
    assert not [*tmp_path.iterdir()]
