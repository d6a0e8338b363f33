"""A store with some leads of the small project, and a worker on it, for the tests of the background worker."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from crm_servers import NOW, Clock
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.loading import load_leads
from predictive_scoring.keeping.store.observed import raise_observed
from predictive_scoring.keeping.store.opening import open_store
from predictive_scoring.live.champion import ChampionFollower
from predictive_scoring.live.worker import Worker
from predictive_scoring.timeline import DAY

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import SmallProject
    from predictive_scoring.keeping.store.connection import Store
    from predictive_scoring.schema import Lead


@cache
def some_leads(project: SmallProject, count: int) -> tuple[Lead, ...]:
    """The first leads that the champion gives a score, in the order of their ids."""
    ids = sorted(str(one) for one in project.tables.leads["lead_id"])[: 3 * count]
    leads = list(project.tables.stored_leads(ids).values())
    scores = project.scorer.score_many(leads, project.as_of)
    return tuple(lead for lead, score in zip(leads, scores, strict=True) if score.status == "scored")[:count]


def fill(store: Store, project: SmallProject, leads: int, now: int) -> list[str]:
    """Bring leads of the project into the store; their ids, in order."""
    found = some_leads(project, leads)

    def work(tx: Any) -> None:
        load_leads(tx, found, project.as_of, now)
        raise_observed(tx, project.as_of)

    store.write(work)
    return [lead.lead_id for lead in found]


def champion_copy(project: SmallProject, folder: Path) -> BundleStore:
    """The small champion's bundles in a folder that a test may change."""
    shutil.copytree(project.store.folder / "bundles", folder / "bundles")
    shutil.copy(project.store.pointer, folder / project.store.pointer.name)
    return BundleStore(folder)


@dataclass
class Workplace:
    """A store in SQLite with `ids`, a worker, and its clock."""

    folder: Path
    store: Store
    bundles: BundleStore
    clock: Clock
    ids: list[str]

    def worker(self, name: str = "w1", **more: Any) -> Worker:
        """A worker of that name."""
        more = {"keep_scores": 400 * DAY, **more}
        return Worker(self.store, ChampionFollower(self.bundles), self.clock.world(), name=name, **more)

    def scores(self) -> list[dict[str, Any]]:
        """Every score, in the order of their cursors."""
        return [json.loads(row.document) for row in self.rows(tables.scores)]

    def rows(self, table: Any) -> list[Any]:
        """All rows, in order of the first column."""
        wanted = select(table).order_by(next(iter(table.c)))
        return list(self.store.read(lambda tx: tx.rows(wanted)))


def workplace(project: SmallProject, folder: Path, leads: int) -> Workplace:
    """A workplace in `folder`."""
    store = open_store(f"sqlite:///{folder / 'store.db'}")
    clock = Clock()
    bundles = champion_copy(project, folder / "models" / project.loaded.project.name)
    return Workplace(folder, store, bundles, clock, fill(store, project, leads, NOW))
