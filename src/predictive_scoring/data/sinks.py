"""Tables out: simulated tables into a project, scores into a file. A file is complete or it is not there."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from predictive_scoring.data.sources import ProjectFile, expand_variables, reason_of
from predictive_scoring.errors import InvalidSetting, UnreadableFile
from predictive_scoring.schema import Score

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


def write_text(path: Path, text: str) -> None:
    """Write a text file. Raises UnreadableFile when the disk refuses."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as refused:
        draft.unlink(missing_ok=True)
        raise UnreadableFile(
            what=f"cannot write the file: {reason_of(refused)}",
            where=str(path),
            remedy="Name a file in a folder that exists and may be written to.",
        ) from refused


def flat_row(score: Score) -> dict[str, object]:
    """A Score as one row for spreadsheets: reasons and actions as text, the explanation left out."""
    return {
        **{name: getattr(score, name) for name in FLAT},
        "interval_low": score.interval[0] if score.interval else None,
        "interval_high": score.interval[1] if score.interval else None,
        "trend": score.trend.change if score.trend else None,
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
    draft = path.with_name(f".{path.name}.draft")
    try:
        if path.suffix == ".jsonl":
            with draft.open("w", encoding="utf-8") as stream:
                for score in scores:
                    stream.write(json.dumps(score.model_dump(mode="json"), ensure_ascii=False) + "\n")
        elif path.suffix == ".csv":
            rows = [flat_row(score) for score in scores]
            with draft.open("w", encoding="utf-8", newline="") as stream:
                writer = csv.DictWriter(stream, fieldnames=list(rows[0]) if rows else list(FLAT))
                writer.writeheader()
                writer.writerows({key: _safe(value) for key, value in row.items()} for row in rows)
        else:
            pd.DataFrame([flat_row(score) for score in scores]).to_parquet(draft, index=False)
        draft.replace(path)
    except OSError as refused:
        draft.unlink(missing_ok=True)
        raise UnreadableFile(
            what=f"cannot write the scores: {reason_of(refused)}",
            where=str(path),
            remedy="Free or unlock the disk.",
        ) from refused


def _safe(value: object) -> object:
    """Text that a spreadsheet would run as a formula is quoted."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
