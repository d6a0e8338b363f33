"""What has to be done before a service can be asked: `python -m predictive_scoring.cli.loading`.

It checks project and champion, brings the store up to date, loads the project's tables and scores what it can of them
within `FIRST_SCORES` seconds, so that the first page shows leads. Loading takes memory that the launcher, which lives
as long as the service, must not keep. Each line on stdout is a JSON document:
first `{"name": …, "keyed": …}` once the store is open, then `{"loaded": …}`; or a named error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from predictive_scoring.errors import PredictiveScoringError

if TYPE_CHECKING:
    from predictive_scoring.keeping.champion import BundleStore
    from predictive_scoring.keeping.store.connection import Store


FIRST_SCORES = 10.0
"""Seconds for the scores of newly loaded leads before the service answers; the background worker makes the others."""


def main() -> None:
    """Prepare the store of a project; see the module."""
    options = argparse.ArgumentParser()
    options.add_argument("--project", type=Path, required=True)
    options.add_argument("--models", type=Path, required=True)
    options.add_argument("--database")
    chosen = options.parse_args()
    try:
        prepare(chosen.project, chosen.models, chosen.database)
    except PredictiveScoringError as refused:
        _tell(refused.to_document())
        sys.exit(refused.exit_code)


def prepare(project_file: Path, models: Path, database: str | None) -> None:
    """Raises the errors of `load_project`, `open_store`, `load_tables` and `load_champion`."""
    from predictive_scoring.cli.output import counted
    from predictive_scoring.data.sources import load_project
    from predictive_scoring.keeping.champion import BundleStore
    from predictive_scoring.keeping.store.keys import has_key
    from predictive_scoring.keeping.store.opening import database_url, open_store

    project = load_project(project_file)
    name = project.project.name
    BundleStore(models / name).champion()
    store = open_store(database or database_url(os.environ, models / name))
    try:
        now = int(time.time())
        _tell({"name": name, "keyed": store.read(lambda tx: has_key(tx, now))})
        from predictive_scoring.live.loading import load_tables

        with ExitStack() as shown:
            bar: Callable[[int, int | None], None] | None = None

            def progress(done: int, total: int) -> None:
                nonlocal bar
                # Not before the first step: mostly there is nothing to load.
                bar = bar or shown.enter_context(counted("loading the project's tables"))
                bar(done, total)

            load = load_tables(store, project, now=now, progress=progress)
        if load.read:
            _score_first(store, BundleStore(models / name), now)
        _tell({"loaded": load.read})
    finally:
        store.close()


def _score_first(store: Store, bundles: BundleStore, now: int) -> None:
    from predictive_scoring.cli.output import counted
    from predictive_scoring.keeping.store.rescoring import backlog
    from predictive_scoring.live.champion import load_champion
    from predictive_scoring.live.delivery import endpoints_of
    from predictive_scoring.live.rescoring import rescore_some

    waiting = store.read(lambda tx: backlog(tx, now)).waiting
    if not waiting:
        return
    scorer = load_champion(bundles)
    destinations = tuple(endpoint.name for endpoint in endpoints_of(os.environ))
    done, end = 0, time.monotonic() + FIRST_SCORES
    with counted("scoring them") as bar:
        while time.monotonic() < end and (taken := rescore_some(store, scorer, now, destinations)[0]):
            done += taken
            bar(done, waiting)


def _tell(document: object) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
