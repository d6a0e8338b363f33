"""Tables out: simulated tables into a project, scores into a file. A file is complete or it is not there."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from predictive_scoring.data.sources import ProjectFile, expand_variables, reason_of
from predictive_scoring.errors import InvalidSetting, UnreadableFile
from predictive_scoring.schema import Score

FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a cell begins with that a spreadsheet takes for a formula; the last four are the wide forms of the first."""
FLAT = (
    "lead_id",
    "as_of",
    "status",
    "status_reason",
    "probability",
    "score",
    "percentile",
    "grade",
    "readiness",
    "stage",
)
"""Columns of a Score that fit a flat table as they are."""
FLAT_SCHEMA = pa.schema(
    {
        **dict.fromkeys(FLAT[:4], pa.string()),
        "probability": pa.float64(),
        "score": pa.int64(),
        "percentile": pa.int64(),
        **dict.fromkeys(FLAT[7:], pa.string()),
        "interval_low": pa.float64(),
        "interval_high": pa.float64(),
        "trend": pa.int64(),
        "expected_days": pa.float64(),
        "evidence": pa.string(),
        "effective_sample_size": pa.float64(),
        **dict.fromkeys(("reasons", "actions", "model_version"), pa.string()),
    }
)
"""Columns of `flat_row` and their types in Parquet, whatever the rows hold."""


def write_tables(loaded: ProjectFile, frames: Mapping[str, pd.DataFrame]) -> dict[str, Path]:
    """Write frames as the Parquet files that `sources` names; all of them are complete before any old one
    is replaced. Raises InvalidSetting for a source that is no Parquet path, UnreadableFile when the disk
    refuses."""
    targets = {}
    for name in frames:
        source = getattr(loaded.project.sources, name)
        if source is None or source.path is None or not source.path.endswith(".parquet"):
            raise InvalidSetting(
                what=f"sources.{name} is not a path to a Parquet file",
                where=str(loaded.path),
                remedy="Simulated tables are Parquet: use `path: tables/….parquet` for leads, events and touches.",
            )
        targets[name] = loaded.data_root / expand_variables(source.path)
    drafts = {name: target.with_name(f".{target.name}.draft") for name, target in targets.items()}
    try:
        for name, frame in frames.items():
            targets[name].parent.mkdir(parents=True, exist_ok=True)
            frame.to_parquet(drafts[name], index=False)
        for name, draft in drafts.items():
            draft.replace(targets[name])
    except OSError as refused:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
        raise UnreadableFile(
            what=f"cannot write the table: {reason_of(refused)}",
            where=str(loaded.data_root),
            remedy="Free or unlock the disk.",
        ) from refused
    return targets


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives the draft of a file to be written; it takes the place of `path` at the end, or is removed.

    Raises UnreadableFile when the disk refuses."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        yield draft
        draft.replace(path)
    except OSError as refused:
        draft.unlink(missing_ok=True)
        raise UnreadableFile(
            what=f"cannot write the file: {reason_of(refused)}",
            where=str(path),
            remedy="Name a file in a folder that exists and may be written to, on a disk with room.",
        ) from refused


def write_text(path: Path, text: str) -> None:
    """Write a text file. Raises UnreadableFile when the disk refuses."""
    with whole_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


def flat_row(score: Score) -> dict[str, object]:
    """A Score as one row for spreadsheets: reasons and actions as text, the explanation left out."""
    return {
        **{name: getattr(score, name) for name in FLAT},
        "interval_low": score.interval[0] if score.interval else None,
        "interval_high": score.interval[1] if score.interval else None,
        "trend": score.trend.change if score.trend else None,
        "expected_days": score.expected_days,
        "evidence": score.evidence.basis if score.evidence else None,
        "effective_sample_size": score.evidence.effective_sample_size if score.evidence else None,
        "reasons": "; ".join(f"{reason.text} ({reason.points:+d})" for reason in score.reasons),
        "actions": "; ".join(action.label for action in score.actions),
        "model_version": score.model.version,
    }


def write_scores(path: Path, scores: Sequence[Score]) -> None:
    """Write scores as `.jsonl` (whole documents), `.csv` or `.parquet` (flat rows).

    Raises InvalidSetting for another ending and UnreadableFile when the disk refuses."""
    if path.suffix not in (".jsonl", ".csv", ".parquet"):
        raise InvalidSetting(
            what=f"scores are not written as {path.suffix or 'a file without ending'!r}",
            where=str(path),
            remedy="End the name in .jsonl, .csv or .parquet.",
        )
    with whole_file(path) as draft:
        if path.suffix == ".jsonl":
            with draft.open("w", encoding="utf-8") as stream:
                for score in scores:
                    stream.write(json.dumps(score.model_dump(mode="json"), ensure_ascii=False) + "\n")
        elif path.suffix == ".csv":
            rows = [flat_row(score) for score in scores]
            with draft.open("w", encoding="utf-8", newline="") as stream:
                writer = csv.DictWriter(stream, fieldnames=list(rows[0]) if rows else list(FLAT))
                writer.writeheader()
                writer.writerows({key: formula_safe(value) for key, value in row.items()} for row in rows)
        else:
            pq.write_table(pa.Table.from_pylist([flat_row(score) for score in scores], FLAT_SCHEMA), draft)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Gives the draft of a folder, still absent, to be filled; it takes the place of `path` at the end.

    A run that fails or is killed leaves what was at `path` before. The draft of a killed run goes with the next
    one. Raises UnreadableFile when the disk refuses."""
    draft, former = (path.with_name(f".{path.name}.{state}") for state in ("draft", "former"))
    try:
        # Killed between the two renames below: what was there comes back first.
        if former.exists() and not path.exists():
            former.replace(path)
        _remove(draft)
        _remove(former)
        if not path.parent.is_dir():
            raise FileNotFoundError(2, "there is no such folder", str(path.parent))
        try:
            yield draft
        except BaseException:
            _remove(draft)
            raise
        if path.exists():
            path.replace(former)
        draft.replace(path)
        _remove(former)
    except OSError as refused:
        raise UnreadableFile(
            what=f"cannot write the folder: {reason_of(refused)}",
            where=str(path),
            remedy="Name a place in a folder that exists and may be written to.",
        ) from refused


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def formula_safe(value: object) -> object:
    """A cell for a CSV file: text that a spreadsheet would run as a formula is quoted with `'`; numbers, and what is no
    text, stay as they are."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_SIGNS) else value
