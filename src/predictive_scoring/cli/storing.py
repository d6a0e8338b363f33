"""The verbs on the store: keys, webhooks, erase, subject, audit, export."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from predictive_scoring.cli.output import people, print_json, show, steps
from predictive_scoring.data.sources import ProjectFile, load_project
from predictive_scoring.errors import AuditChainBroken, InvalidSetting
from predictive_scoring.keeping.store.audit import Verdict, note, verify
from predictive_scoring.keeping.store.connection import Store, Transaction
from predictive_scoring.keeping.store.keys import Key, create_key, list_keys, revoke_key
from predictive_scoring.keeping.store.opening import database_url, open_store
from predictive_scoring.keeping.store.outbox import dead_letters, outbox_counts, revive
from predictive_scoring.keeping.store.subject import subject_report
from predictive_scoring.keeping.vectors import FOLDER, VectorLog
from predictive_scoring.live.crm import erase_everywhere, usual_folders
from predictive_scoring.timeline import format_instant, parse_duration

ACTIONS = ("create", "list", "revoke")
SHOWN = 100
"""Messages in a list."""


@contextmanager
def opened_store(project: Path, models: Path, url: str | None) -> Iterator[tuple[ProjectFile, Store]]:
    """The project, and its store: at `url`, or where the environment or the model folder has it."""
    loaded = load_project(project)
    store = open_store(url or database_url(os.environ, models / loaded.project.name))
    try:
        yield loaded, store
    finally:
        store.close()


def _vectors(models: Path, loaded: ProjectFile) -> list[VectorLog]:
    return [VectorLog(models / loaded.project.name / FOLDER)]


def keys(
    action: str,
    key_id: str | None,
    *,
    name: str | None,
    scopes: tuple[str, ...],
    expires: str | None,
    project: Path,
    models: Path,
    url: str | None,
    now: int,
    as_json: bool,
) -> None:
    """Create, list or revoke API keys. The text of a new key is shown this once."""
    if action not in ACTIONS:
        raise InvalidSetting(
            what=f"keys does not know {action!r}", where="keys", remedy=f"Write keys {'|'.join(ACTIONS)}."
        )
    if action == "create":
        if name is None:
            raise InvalidSetting(
                what="the key has no name", where="--name", remedy="Name the system that will use it."
            )
        until = None if expires is None else now + parse_duration(expires)
        with opened_store(project, models, url) as (_, store):
            made, text = store.write(lambda tx: create_key(tx, name, scopes, now=now, expires=until))
        if as_json:
            print_json({"key": text, **_key(made, now)})
        else:
            people.print(text, soft_wrap=True, markup=False)
            people.print(
                f"Keep it now: it is not shown again. Id {made.key_id}, scopes {', '.join(made.scopes)}."
            )
        return
    if action == "list":
        with opened_store(project, models, url) as (_, store):
            found = store.read(list_keys)
    else:
        if key_id is None:
            raise InvalidSetting(
                what="no key is named", where="keys revoke", remedy="Give its id; keys list shows them."
            )
        with opened_store(project, models, url) as (_, store):
            found = (store.write(lambda tx: revoke_key(tx, key_id, now=now)),)
    if as_json:
        print_json({"keys": [_key(key, now) for key in found]})
        return
    table = Table("id", "name", "scopes", "created", "expires", "state")
    for key in found:
        row = _key(key, now)
        columns = ("key_id", "name", "scopes", "created", "expires", "state")
        table.add_row(*(show(" ".join(row[each]) if each == "scopes" else row[each]) for each in columns))
    people.print(table)


def _key(key: Key, now: int) -> dict[str, Any]:
    state = "revoked" if key.revoked is not None else "valid" if key.is_valid(now) else "expired"
    instants = {
        name: None if value is None else format_instant(value)
        for name, value in (("created", key.created), ("expires", key.expires), ("revoked", key.revoked))
    }
    return {"key_id": key.key_id, "name": key.name, "scopes": list(key.scopes), **instants, "state": state}


def webhooks(
    action: str,
    messages: tuple[int, ...],
    *,
    project: Path,
    models: Path,
    url: str | None,
    now: int,
    as_json: bool,
) -> None:
    """List the webhooks that were given up, the oldest `SHOWN` of them, or make them due again."""
    if action == "list":
        with opened_store(project, models, url) as (_, store):
            letters, (waiting, dead) = store.read(lambda tx: (dead_letters(tx, SHOWN), outbox_counts(tx)))
        rows = [
            {
                "message": one.message_id,
                "to": one.destination,
                "event": one.event_type,
                "lead": one.lead_id,
                "created": format_instant(one.created),
                "attempts": one.attempts,
                "last_error": one.last_error,
            }
            for one in letters
        ]
        if as_json:
            print_json({"waiting": waiting, "given_up": dead, "messages": rows})
            return
        if rows:
            table = Table(*rows[0])
            for row in rows:
                table.add_row(*(show(value) for value in row.values()))
            people.print(table)
        more = f", the oldest {len(rows)} of them above" if dead > len(rows) else ""
        people.print(f"{waiting} on their way, {dead} given up{more}.")
    elif action == "retry":

        def again(tx: Transaction) -> int:
            count = revive(tx, now, messages or None)
            note(tx, now, "cli", "webhooks_retried", details={"messages": count})
            return count

        with opened_store(project, models, url) as (_, store):
            count = store.write(again)
        if as_json:
            print_json({"retried": count})
        else:
            people.print(f"{count} will be tried again by the background worker, from the beginning.")
    else:
        raise InvalidSetting(
            what=f"webhooks does not know {action!r}", where="webhooks", remedy="Write webhooks list|retry."
        )


def erase(
    lead: str, yes: bool, *, project: Path, models: Path, url: str | None, now: int, as_json: bool
) -> None:
    """Erase a lead from the store, the kept vectors and connectors' folders; without `yes` only say what the store
    and the vectors would lose."""
    with opened_store(project, models, url) as (loaded, store):
        logs = _vectors(models, loaded)
        if not yes:
            report = store.read(lambda tx: subject_report(tx, lead, logs))
            rows = {name: len(found) for name, found in report.items() if isinstance(found, list)}
            rows = {name: count for name, count in rows.items() if name not in ("ids", "audit")}
            document: dict[str, Any] = {"erased": False, "rows": rows}
        else:
            gone = erase_everywhere(
                store, lead, now=now, actor="cli", vectors=logs, folders=usual_folders(project)
            )
            rows = {**gone.rows, "kept_vectors": gone.vectors, "connector_tables": gone.landed}
            document = {"erased": True, "rows": rows}
    if as_json:
        print_json(document)
        return
    table = Table("what", "rows")
    for name, count in rows.items():
        if count:
            table.add_row(name, str(count))
    people.print(table)
    people.print("Erased." if yes else "Nothing was erased yet: run it again with --yes.")


def subject(lead: str, *, project: Path, models: Path, url: str | None) -> None:
    """Print everything that is held about one lead, as one JSON document."""
    with opened_store(project, models, url) as (loaded, store):
        logs = _vectors(models, loaded)
        print_json(store.read(lambda tx: subject_report(tx, lead, logs)))


def audit(
    action: str, head: str | None, *, project: Path, models: Path, url: str | None, as_json: bool
) -> None:
    """Verify the chain of the audit log. Raises AuditChainBroken (exit 3) with the first broken row."""
    if action != "verify":
        raise InvalidSetting(
            what=f"audit does not know {action!r}", where="audit", remedy="Write audit verify."
        )
    with opened_store(project, models, url) as (_, store):
        found: Verdict = store.read(lambda tx: verify(tx, head))
        where = store.where
    if not found.is_whole:
        raise AuditChainBroken(
            what=f"row {found.broken} of the audit log: {found.reason}",
            where=where,
            remedy=f"The {found.rows} rows before it are as they were written. Compare with a backup.",
        )
    if as_json:
        print_json({"whole": True, **{name: asdict(found)[name] for name in ("rows", "head")}})
    else:
        people.print(f"The audit log is whole: {found.rows} rows. Newest hash, to be noted elsewhere:")
        people.print(found.head)


def export(*, project: Path, models: Path, url: str | None, as_json: bool) -> None:
    """Write the stored history into the project's tables, which must be Parquet paths."""
    from predictive_scoring.data.sinks import write_tables
    from predictive_scoring.keeping.store.export import tables_of

    with opened_store(project, models, url) as (loaded, store):
        with steps("reading the store"):
            frames = store.read(lambda tx: tables_of(tx, loaded.project))
        sources = loaded.project.sources
        wanted = {name: frame for name, frame in frames.items() if getattr(sources, name) is not None}
        written = write_tables(loaded, wanted)
    rows = {name: len(wanted[name]) for name in written}
    if as_json:
        print_json({"rows": rows, "files": {name: str(path) for name, path in written.items()}})
        return
    table = Table("table", "rows", "file")
    for name, path in written.items():
        table.add_row(name, str(rows[name]), str(path))
    people.print(table)
