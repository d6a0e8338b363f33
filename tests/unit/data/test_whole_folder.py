"""A folder is complete or as it was, whatever moment an earlier run was killed at."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from predictive_scoring.data.sinks import whole_folder
from predictive_scoring.errors import UnreadableFile


def fill(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "part").write_text(text, "utf-8")


@pytest.mark.parametrize(("target", "draft", "former"), [*itertools.product([False, True], repeat=3)])
def test_whatever_a_killed_run_left_the_next_one_replaces(
    tmp_path: Path, target: bool, draft: bool, former: bool
) -> None:
    path = tmp_path / "scores.parquet"
    for there, name in (
        (target, path.name),
        (draft, f".{path.name}.draft"),
        (former, f".{path.name}.former"),
    ):
        if there:
            fill(tmp_path / name, name)
    with whole_folder(path) as new:
        assert path.exists() == (target or former), "what was there is there until the end"
        assert not new.exists()
        fill(new, "new")
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert (path / "part").read_text("utf-8") == "new"


def interrupted(path: Path) -> None:
    with whole_folder(path) as new:
        fill(new, "new")
        raise KeyboardInterrupt


@pytest.mark.parametrize("there", [False, True])
def test_a_run_that_fails_leaves_what_was_there(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "scores.parquet"
    if there:
        fill(path, "old")
    with pytest.raises(KeyboardInterrupt):
        interrupted(path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name] * there
    assert not there or (path / "part").read_text("utf-8") == "old"


def test_a_file_of_that_name_is_replaced_too(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    path.write_text("a file that another engine wrote", "utf-8")
    with whole_folder(path) as new:
        fill(new, "new")
    assert (path / "part").read_text("utf-8") == "new"


def test_without_a_place_it_is_refused_before_any_work(tmp_path: Path) -> None:
    worked = False
    with pytest.raises(UnreadableFile, match="no such folder"), whole_folder(tmp_path / "none" / "x.parquet"):
        worked = True
    assert not worked
