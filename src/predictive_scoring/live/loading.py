"""The project's tables into the store, once per content.

The service answers from the store alone. What a project's `sources` name is loaded into it when the service
starts: at the first start everything, later only when the files changed, and then only what is new in them.
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from predictive_scoring.data.engines import Engine, open_engine
from predictive_scoring.data.sources import ProjectFile, open_tables
from predictive_scoring.keeping.store.connection import Store, Transaction
from predictive_scoring.keeping.store.facts import read_fact, write_fact
from predictive_scoring.keeping.store.loading import Loaded, load_leads
from predictive_scoring.keeping.store.observed import raise_observed
from predictive_scoring.settings import TableSource

AT_ONCE = 1000
"""Leads that are read at a time."""
PER_WRITE = 200
"""Leads per transaction: other writers wait for one of them, some tenths of a second."""
FACT = "loaded_tables"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Load:
    """What a load did; `read` is False where the tables are those of the last load."""

    read: bool
    loaded: Loaded = field(default_factory=Loaded)


def load_tables(
    store: Store,
    project: ProjectFile,
    *,
    now: int,
    again: bool = False,
    engine: Callable[[], Engine] = open_engine,
    progress: Progress | None = None,
) -> Load:
    """Bring the project's tables into the store, unless they are those of the last load or `again` asks for it.

    Tables in a database or on a cluster show no sign of change: they are read into an empty store, and `again`. A load
    that was interrupted begins again and adds what is missing. `now` is epoch seconds. Raises the errors of
    `open_tables`, InvalidValue for ids that no store can hold, and StoreUnavailable."""
    content = contents(project)

    def known(tx: Transaction) -> bool:
        if content is None:
            return read_fact(tx, FACT) is not None
        return read_fact(tx, FACT) == content

    if not again and store.read(known):
        return Load(read=False)
    with engine() as opened:
        tables = open_tables(project, opened)
        ids = [str(lead_id) for lead_id in tables.leads["lead_id"]]
        until = tables.observed_until
        total, loaded = len(ids), Loaded()
        for start in range(0, total, AT_ONCE):
            chunk = list(tables.stored_leads(ids[start : start + AT_ONCE]).values())
            for first in range(0, len(chunk), PER_WRITE):
                part = chunk[first : first + PER_WRITE]
                loaded += store.write(partial(load_leads, leads=part, until=until, now=now))
                if progress is not None:
                    progress(start + first + len(part), total)

    def finish(tx: Transaction) -> None:
        tx.lock("history")
        raise_observed(tx, until)
        write_fact(tx, FACT, content or "in place")

    store.write(finish)
    return Load(read=True, loaded=loaded)


def contents(project: ProjectFile) -> str | None:
    """A hash over path, size and time of every file that the project's sources name; None where a source is not a
    file of this machine."""
    found: list[tuple[str, int, int]] = []
    for source in _sources(project):
        named = [source.path] if source.path is not None else list(source.tables.values())
        located = [project.locate(path) for path in named]
        if not located or any("://" in path for path in located):
            return None
        # Patterns are whole paths, which Path.glob does not take.
        for path in (one for pattern in located for one in sorted(glob.glob(pattern, recursive=True))):  # noqa: PTH207
            state = Path(path).stat()
            found.append((path, state.st_size, state.st_mtime_ns))
    text = json.dumps(
        [found, project.project.model_dump(mode="json", include={"sources", "attributes", "events"})]
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _sources(project: ProjectFile) -> list[TableSource]:
    sources = project.project.sources
    named = (sources.leads, sources.events, sources.attribute_changes, sources.touches, sources.snapshot)
    return [source for source in named if source is not None]
