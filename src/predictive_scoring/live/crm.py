"""The CRM and the store: folders that erasures must reach, and changed scores on their way into the CRM."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from predictive_scoring.connectors.fields import Change, changes
from predictive_scoring.connectors.pushing import Pushed
from predictive_scoring.connectors.written import WrittenScores
from predictive_scoring.errors import InvalidSetting, StoreUnavailable
from predictive_scoring.keeping.store.connection import Store, Transaction
from predictive_scoring.keeping.store.erasure import Erased, erase_lead, ids_of
from predictive_scoring.keeping.store.facts import facts_named, read_fact, write_fact
from predictive_scoring.keeping.store.scores import page
from predictive_scoring.keeping.vectors import VectorLog
from predictive_scoring.schema import Score

AT_ONCE = 1000
"""Scores read together."""
_FOLDER, _PUSH = "folder:", "push:"


@dataclass(frozen=True)
class LandingFolder:
    """A folder that pulls from `system` land in."""

    system: str
    path: Path


def usual_folders(project: Path) -> list[LandingFolder]:
    """Where `connect SYSTEM pull` lands without --tables; `project` is the project file."""
    return [LandingFolder(one, project.parent / "tables" / one) for one in ("hubspot", "salesforce")]


def note_folder(tx: Transaction, system: str, path: Path) -> None:
    """Remember a landing folder, so that erasures reach it."""
    place = str(path.resolve())
    name = f"{_FOLDER}{hashlib.sha256(place.encode()).hexdigest()[:16]}"
    write_fact(tx, name, json.dumps({"system": system, "path": place}))


def landing_folders(tx: Transaction) -> tuple[LandingFolder, ...]:
    """The folders that were noted."""
    found = (json.loads(value) for value in facts_named(tx, _FOLDER).values())
    return tuple(LandingFolder(one["system"], Path(one["path"])) for one in found)


def erase_everywhere(
    store: Store,
    lead_id: str,
    *,
    now: int,
    actor: str,
    vectors: Sequence[VectorLog] = (),
    folders: Sequence[LandingFolder] = (),
) -> Erased:
    """`erase_lead`, and before it the lead's rows in every landing folder of this machine: those that were noted, and
    `folders`.

    Raises what `erase_lead` raises, and StoreUnavailable while a pull into one of them is running: call it again."""
    ids, noted = store.read(lambda tx: (ids_of(tx, lead_id), landing_folders(tx)))
    reached = dict.fromkeys(LandingFolder(one.system, one.path.resolve()) for one in (*noted, *folders))
    landed = sum(_forget(one, ids) for one in reached if one.path.is_dir())
    return replace(erase_lead(store, lead_id, now=now, actor=actor, vectors=vectors), landed=landed)


def _forget(folder: LandingFolder, ids: Sequence[str]) -> int:
    # Readers of Parquet, which a service without connectors never needs.
    from predictive_scoring.connectors.erasing import forget_in_folder

    try:
        return forget_in_folder(folder.system, folder.path, ids)
    except InvalidSetting as busy:
        raise StoreUnavailable(
            what=busy.what, where=busy.where, remedy="Erase again when the pull is done."
        ) from busy


@dataclass
class PushedChanges:
    """Scores looked at, leads whose fields are not as they were last written, leads whose fields are, and what came of
    writing them."""

    looked: int = 0
    changed: int = 0
    unchanged: int = 0
    pushed: Pushed = field(default_factory=Pushed)

    def to_document(self) -> dict[str, Any]:
        """Numbers, and the document of `pushed`."""
        looked = {"scores": self.looked, "changed": self.changed, "unchanged": self.unchanged}
        return looked | self.pushed.to_document()


def push_changed(
    store: Store,
    system: str,
    names: Mapping[str, str],
    written: WrittenScores,
    push: Callable[[Sequence[Change]], Pushed] | None,
) -> PushedChanges:
    """Write into the CRM what changed since the last push; without `push` only say what would be written.

    The cursor moves on with each page that the CRM took whole. A lead that was refused holds it there, so it is tried
    again; what was written is known by its mark (`written`) and is not written twice. Raises what `push` raises, and
    StoreUnavailable."""
    done = PushedChanges()
    cursor = int(store.read(lambda tx: read_fact(tx, _PUSH + system)) or 0)
    while True:
        found = store.read(partial(page, after=cursor, limit=AT_ONCE))
        scores = [Score.model_validate_json(row.document) for row in found.rows]
        changed = changes(scores, names, written)
        done.looked += len(scores)
        done.changed += len(changed)
        done.unchanged += len(scores) - len(changed)
        if changed and push is not None:
            pushed = push(changed)
            done.pushed.written += pushed.written
            done.pushed.failed |= pushed.failed
        cursor = found.cursor
        if scores and push is not None and not done.pushed.failed:
            store.write(partial(write_fact, name=_PUSH + system, value=str(cursor)))
        if not found.more:
            return done
