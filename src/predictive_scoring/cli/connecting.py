"""The verb connect: tables from a CRM, scores into a CRM."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import typer
from pydantic import ValidationError

from predictive_scoring.cli.output import counted, people, print_json, steps
from predictive_scoring.cli.storing import opened_store
from predictive_scoring.connectors.fields import HUBSPOT_NAMES, SALESFORCE_NAMES, Change, changes
from predictive_scoring.connectors.http import HttpDoor, Patience, World, opened
from predictive_scoring.connectors.hubspot_push import check_properties, push_hubspot
from predictive_scoring.connectors.pulling import Pulled, pull_hubspot, pull_salesforce
from predictive_scoring.connectors.pushing import Pushed
from predictive_scoring.connectors.salesforce_push import check_fields, push_salesforce
from predictive_scoring.connectors.tokens import hubspot_token, salesforce_token
from predictive_scoring.connectors.written import WrittenFile
from predictive_scoring.data.drafting import draft_project
from predictive_scoring.data.sinks import write_text
from predictive_scoring.data.sources import read_text
from predictive_scoring.errors import InvalidDocument, InvalidSetting, PredictiveScoringError
from predictive_scoring.keeping.store.connection import Store
from predictive_scoring.live.crm import PushedChanges, note_folder, push_changed
from predictive_scoring.live.loading import load_tables
from predictive_scoring.schema import Score
from predictive_scoring.timeline import format_instant, parse_duration, parse_instant

SYSTEMS = {"hubspot": hubspot_token, "salesforce": salesforce_token}
DIRECTIONS = ("pull", "push")


def connect(
    system: str,
    direction: str,
    *,
    project: Path,
    tables: Path | None,
    since: str | None,
    fields: Sequence[str],
    scores: Path,
    key: str | None,
    create_fields: bool,
    dry_run: bool,
    deadline: str,
    store: Path | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Pull tables from a CRM, or push scores into it. `store` is the folder of models where the store is meant, instead
    of files: pulled tables go on into it, changed scores come out of it."""
    if system not in SYSTEMS or direction not in DIRECTIONS:
        raise InvalidSetting(
            what=f"connect does not know {system!r} {direction!r}",
            where="connect",
            remedy="Write connect hubspot|salesforce pull|push.",
        )
    folder = tables or project.parent / "tables" / system
    if direction == "pull":
        first = 0 if since is None else parse_instant(since, where="--since")
        _pull(system, project, folder, first, fields, deadline, as_json, store, url)
    elif store is not None:
        with opened_store(project, store, url) as (_, kept):
            _push(system, folder, kept, key, create_fields, dry_run, deadline, as_json)
    else:
        _push(system, folder, scores, key, create_fields, dry_run, deadline, as_json)


def world() -> World:
    """The real clock, sleep and chance."""
    return World(time.time, time.monotonic, time.sleep, secrets.SystemRandom().random)


def _pull(
    system: str,
    project: Path,
    folder: Path,
    first: int,
    fields: Sequence[str],
    deadline: str,
    as_json: bool,
    store: Path | None,
    url: str | None,
) -> None:
    token = SYSTEMS[system](os.environ)
    fetch = pull_hubspot if system == "hubspot" else pull_salesforce
    with steps(f"asking {system}") as say:
        with opened(token, world(), _patience(deadline), say) as door:
            pulled = fetch(door, folder, first, fields, say)
        notes = [] if project.exists() else _draft(project, folder, pulled)
    document = {
        "tables": str(folder),
        "since": format_instant(pulled.window.since),
        "until": format_instant(pulled.window.until),
        "rows": dict(pulled.rows),
        "project": str(project) if project.exists() else None,
        "notes": notes,
    }
    if store is not None and project.exists():
        document["store"] = _into_store(system, project, folder, store, url, pulled.window.until)
    if as_json:
        print_json(document)
        return
    for name, rows in pulled.rows.items():
        people.print(f"{rows:>9,} {name}", markup=False)
    people.print(f"{folder}, up to {document['until']}", markup=False, soft_wrap=True)
    for note in notes:
        people.print(f"  - {note}", markup=False, soft_wrap=True)


def _into_store(
    system: str, project: Path, folder: Path, models: Path, url: str | None, now: int
) -> dict[str, int]:
    """The project's tables into its store, and the folder noted for erasures."""
    with opened_store(project, models, url) as (loaded, store), counted("into the store") as progress:
        store.write(lambda tx: note_folder(tx, system, folder))
        found = load_tables(store, loaded, now=now, progress=progress).loaded
    return {"leads": found.leads, "erased": found.erased, "new_events": found.events}


def _draft(project: Path, folder: Path, pulled: Pulled) -> list[str]:
    """A first project file over the tables; where it cannot be drafted yet, why."""
    try:
        draft = draft_project([folder], relative_to=project.resolve().parent, today=pulled.window.until)
    except PredictiveScoringError as refused:
        return [f"No project file was drafted: {refused.what}. {refused.remedy}"]
    write_text(project, draft.text)
    return [f"Wrote {project}: read its comments, then validate.", *draft.notes]


def _push(
    system: str,
    folder: Path,
    source: Path | Store,
    key: str | None,
    create_fields: bool,
    dry_run: bool,
    deadline: str,
    as_json: bool,
) -> None:
    """Write into the CRM what changed since the last push, in a file of scores or in the store."""
    names = HUBSPOT_NAMES if system == "hubspot" else SALESFORCE_NAMES
    written = WrittenFile(folder / ".push" / "written.jsonl")

    @contextmanager
    def writing(what: str) -> Iterator[Callable[[Sequence[Change]], Pushed]]:
        token = SYSTEMS[system](os.environ)
        with (
            steps(f"writing {what} to {system}") as say,
            opened(token, world(), _patience(deadline), say) as door,
        ):
            yield lambda found: _written(system, door, found, names, written, key, create_fields)

    if isinstance(source, Path):
        read = _scores(source)
        found = changes(read, names, written)
        unchanged = len({score.lead_id for score in read}) - len(found)
        done = PushedChanges(len(read), len(found), unchanged)
        if found and not dry_run:
            with writing(f"{len(found):,} of {len(read):,} leads") as write:
                done.pushed = write(found)
    else:
        source.write(lambda tx: note_folder(tx, system, folder))
        with nullcontext() if dry_run else writing("what changed") as push:
            done = push_changed(source, system, names, written, push)
    document = done.to_document()
    if as_json:
        print_json(document)
    else:
        people.print(
            f"{document['changed']:,} of {document['scores']:,} leads changed; {document['written']:,} written, "
            f"{document['failed']:,} refused."
        )
        for reason, number in document["reasons"].items():
            people.print(f"  {number:,} {reason}", markup=False)
    if done.pushed.failed:
        raise typer.Exit(2)


def _written(
    system: str,
    door: HttpDoor,
    found: Sequence[Change],
    names: Mapping[str, str],
    written: WrittenFile,
    key: str | None,
    create_fields: bool,
) -> Pushed:
    if system == "hubspot":
        check_properties(door, names, create_fields)
        return push_hubspot(door, found, names, written, key)
    longest = check_fields(door, names, key or "Id")
    return push_salesforce(door, found, names, written, key or "Id", longest)


def _patience(deadline: str) -> Patience:
    return Patience(deadline=float(parse_duration(deadline)))


def _scores(path: Path) -> list[Score]:
    """The Score documents of a `.jsonl` file. Raises UnreadableFile and InvalidDocument (with line)."""
    read = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            read.append(Score.model_validate_json(line))
        except ValidationError:
            raise InvalidDocument(
                what="the line is no Score document",
                where=f"{path}, line {number}",
                remedy="Write the file with `score --out scores.jsonl`.",
            ) from None
    return read
