"""Earlier scores read back: what was written is what is read, in every form that can be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from predictive_scoring.data.earlier_scores import read_earlier_scores
from predictive_scoring.data.sinks import write_scores
from predictive_scoring.errors import (
    DuplicateKey,
    InvalidSetting,
    InvalidValue,
    MissingColumn,
    UnreadableFile,
)
from predictive_scoring.schema import ModelReference, Score
from predictive_scoring.timeline import parse_instant

AS_OF = "2026-05-01T00:00:00Z"
LEADS = {
    "L-1": "ready",
    "-L2": "nurture",
    "=1+1": "ready",
    "007": "nurture",
    "'quoted": "ready",
    "nan": "nurture",
}


def score(lead: str, side: str | None) -> Score:
    return Score(
        lead_id=lead,
        as_of=AS_OF,
        status="scored" if side else "not_scored",
        horizon_days=30,
        readiness=side,
        model=ModelReference(name="demo", version="1", bundle="sha256:0"),
    )


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_every_form_gives_back_the_side_of_each_scored_lead(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"scores.{ending}"
    write_scores(path, [*(score(lead, side) for lead, side in LEADS.items()), score("gone", None)])
    earlier = read_earlier_scores(path)
    assert earlier.readiness == LEADS
    assert earlier.as_of == parse_instant(AS_OF)


def test_a_folder_of_parts_is_read_whole(tmp_path: Path) -> None:
    folder = tmp_path / "scores.parquet"
    folder.mkdir()
    for number, (lead, side) in enumerate(LEADS.items()):
        write_scores(folder / f"part-{number}.parquet", [score(lead, side)])
    assert read_earlier_scores(folder).readiness == LEADS


def test_no_scores_are_no_sides(tmp_path: Path) -> None:
    (tmp_path / "scores.jsonl").write_text("\n")
    earlier = read_earlier_scores(tmp_path / "scores.jsonl")
    assert (earlier.readiness, earlier.as_of) == ({}, None)


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("scores.txt", "", InvalidSetting),
        ("absent.csv", None, UnreadableFile),
        ("scores.csv", "", UnreadableFile),
        ("scores.csv", "lead_id,score\nL1,50\n", MissingColumn),
        ("scores.csv", f"lead_id,as_of,readiness\nL1,{AS_OF},hot\n", InvalidValue),
        ("scores.csv", f"lead_id,as_of,readiness\nL1,{AS_OF},ready\nL1,{AS_OF},ready\n", DuplicateKey),
        ("scores.jsonl", "{not json}\n", UnreadableFile),
        ("scores.jsonl", "[1]\n", MissingColumn),
        ("scores.parquet", "no parquet", UnreadableFile),
    ],
)
def test_what_is_no_file_of_scores_is_refused_by_name(tmp_path: Path, name: str, text, error) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(error) as refused:
        read_earlier_scores(tmp_path / name)
    assert name in refused.value.where
