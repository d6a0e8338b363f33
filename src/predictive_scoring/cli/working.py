"""The verb work: the background worker, until it is stopped or nothing is left to do."""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from predictive_scoring import logs
from predictive_scoring.cli.connecting import world
from predictive_scoring.cli.output import people, print_json
from predictive_scoring.cli.processes import heard_signals
from predictive_scoring.connectors.http import http_client
from predictive_scoring.data.sources import load_project
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.keeping.store.opening import database_url, open_store
from predictive_scoring.live.champion import ChampionFollower
from predictive_scoring.live.delivery import endpoints_of
from predictive_scoring.live.worker import Done, Worker, work_off
from predictive_scoring.live.worker import work as work_until

WORDS = {
    "rescored": "leads scored that changed or were outdated",
    "failed": "of these could not be scored",
    "job_leads": "leads of bulk jobs scored",
    "jobs": "jobs ended",
    "forgotten": "rows forgotten that were over their time",
    "delivered": "messages delivered",
    "undelivered": "messages tried in vain",
    "dead": "messages given up",
}


def work(*, project: Path, models: Path, url: str | None, once: bool, as_json: bool) -> None:
    """Work on the project's store until SIGTERM or SIGINT; with `once` until nothing is left.

    Raises the errors of `load_project`, InvalidSetting for webhooks, and with `once` UnknownModel, CorruptBundle and
    StoreUnavailable."""
    logs.configure("worker")
    loaded = load_project(project).project
    endpoints = endpoints_of(os.environ)
    with ExitStack() as open_until_done:
        store = open_store(url or database_url(os.environ, models / loaded.name))
        open_until_done.callback(store.close)
        client = open_until_done.enter_context(http_client()) if endpoints else None
        worker = Worker(
            store,
            ChampionFollower(BundleStore(models / loaded.name)),
            world(),
            name=secrets.token_hex(8),
            keep_scores=loaded.retention.scores,
            endpoints=endpoints,
        )
        if not once:
            with heard_signals() as heard:
                work_until(worker, client, heard.stop)
            return
        done = work_off(worker, client)
    _tell(done, as_json)


def _tell(done: Done, as_json: bool) -> None:
    if as_json:
        print_json(asdict(done))
        return
    said = [f"{number:,} {WORDS[name]}" for name, number in asdict(done).items() if number and name in WORDS]
    people.print("; ".join(said) + "." if said else "Nothing was left to do.")
