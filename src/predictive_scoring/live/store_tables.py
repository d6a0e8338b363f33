"""The store's history as the project's tables, for readings by batch: what the service knew, with every late fact."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from predictive_scoring.data.sinks import write_tables
from predictive_scoring.data.sources import ProjectFile
from predictive_scoring.keeping.store.connection import Store
from predictive_scoring.keeping.store.export import tables_of
from predictive_scoring.keeping.store.histories import count_leads
from predictive_scoring.keeping.store.observed import observed_until
from predictive_scoring.settings import Sources, TableSource


def holds_leads(store: Store) -> bool:
    """Whether there is anything to read. Raises StoreUnavailable."""
    return store.read(count_leads) > 0


@contextmanager
def store_tables(store: Store, loaded: ProjectFile) -> Iterator[ProjectFile]:
    """The project with the store's history as its sources: Parquet files in a folder that goes with the context.

    Its data are private to the user. Raises StoreUnavailable, UnreadableFile."""
    frames, until = store.read(lambda tx: (tables_of(tx, loaded.project), observed_until(tx)))
    with tempfile.TemporaryDirectory(prefix="predictive-scoring-") as folder:
        sources = Sources(**{name: TableSource(path=f"{name}.parquet") for name in frames})
        project = loaded.project.model_copy(
            update={"sources": sources, "data_root": folder, "observed_until": until}
        )
        stored = replace(loaded, project=project, path=Path(folder) / loaded.path.name)
        write_tables(stored, frames)
        yield stored
