"""The verb replay: served feature vectors against batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from predictive_scoring.cli.output import counted, people, print_json, show, steps
from predictive_scoring.data.engines import Engine, open_engine
from predictive_scoring.data.sources import ProjectFile, load_project, open_tables
from predictive_scoring.errors import GateRefused, InvalidSetting, UnreadableFile
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.keeping.store.opening import FILE, database_url, open_store
from predictive_scoring.keeping.vectors import FOLDER, VectorLog
from predictive_scoring.live.store_tables import holds_leads, store_tables
from predictive_scoring.replay import VERDICTS, Difference, Replay, Section, bundle_features
from predictive_scoring.replay import replay as replay_vectors
from predictive_scoring.timeline import format_instant


def replay(
    project: Path,
    since: str | None,
    until: str | None,
    tolerance: float,
    models: Path,
    as_json: bool,
    engine: Callable[[], Engine] = open_engine,
) -> None:
    """Print what became of the vectors served on the days `since` to `until`. Exit 3 when one of a stored lead
    differs. Batch reads what the service read: the history in the store, or the tables where nothing is stored.

    Raises InvalidSetting for a day that is none, UnreadableFile when none were kept."""
    first, last = _day(since, "--since"), _day(until, "--until")
    loaded = load_project(project)
    folder = models / loaded.project.name
    log = VectorLog(folder / FOLDER)
    lines = log.count(first, last)
    if lines == 0:
        raise UnreadableFile(
            what="no served feature vectors were kept" + (" on these days" if first or last else ""),
            where=str(log.folder),
            remedy="Serve or score with --keep-vectors 0.01, or name the folder with --models.",
        )
    with engine() as running, ExitStack() as read:
        with steps("reading the history"):
            tables = open_tables(read.enter_context(_served_from(loaded, folder)), running)
        with counted("replaying vectors") as progress:
            found = replay_vectors(
                log.read(first, last),
                tables,
                bundle_features(BundleStore(folder)),
                tolerance=tolerance,
                progress=lambda done: progress(done, max(lines, done)),
            )
    if as_json:
        print_json(_document(loaded.project.name, first, last, tolerance, found))
    else:
        _print(found)
    if not found.is_clean:
        raise typer.Exit(GateRefused.exit_code)


@contextmanager
def _served_from(loaded: ProjectFile, folder: Path) -> Iterator[ProjectFile]:
    """The project with the history that stored leads were served from."""
    url = database_url(os.environ, folder)
    if url == database_url({}, folder) and not (folder / FILE).exists():
        yield loaded
        return
    store = open_store(url)
    try:
        if holds_leads(store):
            with store_tables(store, loaded) as stored:
                yield stored
        else:
            yield loaded
    finally:
        store.close()


def _day(text: str | None, option: str) -> str | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as refused:
        raise InvalidSetting(
            what=f"{text!r} is not a day", where=option, remedy="Write it like 2026-11-01."
        ) from refused


def _document(
    project: str, since: str | None, until: str | None, tolerance: float, found: Replay
) -> dict[str, Any]:
    return {
        "project": project,
        "since": since,
        "until": until,
        "tolerance": tolerance,
        "clean": found.is_clean,
        **{name: _section(section) for name, section in (("stored", found.stored), ("body", found.body))},
        "not_compared": {
            "repeated": found.repeated,
            "not_in_tables": found.not_in_tables,
            "ahead_of_tables": found.ahead,
            "torn_lines": found.torn,
            "unknown_bundles": dict(found.unknown_bundles),
        },
    }


def _section(section: Section) -> dict[str, Any]:
    return {
        "vectors": section.vectors,
        "differing": section.differing,
        "features": {name: dict(counts) for name, counts in section.features.items()},
        "examples": [
            {
                **asdict(one),
                "as_of": format_instant(one.as_of),
                "served_at": format_instant(one.served_at),
                "served": _cell(one.served),
                "batch": _cell(one.batch),
            }
            for one in section.examples
        ],
    }


def _cell(value: float | str | None) -> float | str | None:
    """JSON has no infinity."""
    return str(value) if isinstance(value, float) and value in (float("inf"), float("-inf")) else value


def _print(found: Replay) -> None:
    _print_section("vectors of stored leads", found.stored, "read again from the tables exactly as served")
    if found.body.vectors:
        _print_section("vectors of leads in requests", found.body, "agree with what the tables hold")
        if found.body.differing:
            people.print("These leads were sent with other facts than the tables hold; no incident.")
    for number, what in (
        (found.repeated, "were kept more than once and compared once"),
        (found.not_in_tables, "have a lead that is not in the tables"),
        (found.ahead, "were served as of an instant that the tables do not reach to"),
        (
            sum(found.unknown_bundles.values()),
            "were served by a bundle that the store does not hold any more",
        ),
        (found.torn, "are lines that hold no vector"),
    ):
        if number:
            people.print(f"{number:,} {what}")
    if not found.stored.vectors and not found.body.vectors:
        people.print("[bold]Nothing could be compared.[/]")


def _print_section(title: str, section: Section, clean: str) -> None:
    if not section.vectors:
        return
    if not section.differing:
        people.print(f"{section.vectors:,} {title}: all {clean}")
        return
    people.print(f"[bold]{section.differing:,} of {section.vectors:,} {title} differ[/]")
    table = Table("feature")
    for verdict in VERDICTS:
        table.add_column(verdict, justify="right")
    for name, counts in section.features.items():
        if counts["match"] < sum(counts.values()):
            table.add_row(name, *(f"{counts[verdict]:,}" for verdict in VERDICTS))
    people.print(table)
    for example in section.examples:
        people.print(f"  {_spoken(example)}", markup=False, soft_wrap=True)


def _spoken(one: Difference) -> str:
    return (
        f"{one.feature}: {one.lead_id} as of {format_instant(one.as_of)}, served {show(one.served)}, "
        f"batch {show(one.batch)} ({one.verdict})"
    )
