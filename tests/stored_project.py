"""A store with the leads of a small project in it, loaded and scored as the product does it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from predictive_scoring.keeping.store.observed import observed_until
from predictive_scoring.keeping.store.opening import FILE, open_store
from predictive_scoring.live.loading import load_tables
from predictive_scoring.live.rescoring import rescore_some

if TYPE_CHECKING:
    from serving.bodies import LeadSummary
    from serving.state import Serving

    from conftest import SmallProject


def fill_store(project: SmallProject, url: str) -> None:
    """Load the project's tables into the store at `url` and score every lead with its champion."""
    store = open_store(url)
    now = int(time.time())
    load_tables(store, project.loaded, now=now)
    while rescore_some(store, project.scorer, now)[0]:
        pass
    store.close()


def sqlite_url(folder: Path) -> str:
    """The address of the store file in a folder."""
    return f"sqlite:///{folder / FILE}"


def copied_store(filled: Path, into: Path) -> str:
    """A copy, for tests that write, of the store in the folder `filled`; its address."""
    into.mkdir(parents=True, exist_ok=True)
    shutil.copy(filled / FILE, into / FILE)
    return sqlite_url(into)


def listed(serving: Serving) -> tuple[LeadSummary, ...]:
    """Every stored lead with a score or the reason why it has none, the most promising first."""
    from serving.listing import list_leads
    from serving.selection import Selection

    return list_leads(serving.store, serving.scorer.scoring.project, Selection(), 10_000, 0).page.leads


def stored_until(serving: Serving) -> int:
    """How far the store knows (epoch seconds)."""
    return serving.store.read(observed_until)
