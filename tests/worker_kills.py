"""Background workers that are killed at any moment: real processes, and what they leave behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

from sqlalchemy import select

from crm_servers import Clock
from predictive_scoring.connectors.webhooks_out import Endpoint
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.jobs import create_job, list_jobs
from predictive_scoring.keeping.store.opening import open_store
from predictive_scoring.live.champion import ChampionFollower
from predictive_scoring.live.worker import Worker
from worker_worlds import fill

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import SmallProject
    from predictive_scoring.keeping.store.connection import Store

LEASE = 1
"""Seconds for which leads are taken: what a killed worker had is waited for."""

FORKER = """
import os, sys, time, traceback
from pathlib import Path

from predictive_scoring.cli.connecting import world
from predictive_scoring.connectors.webhooks_out import Endpoint
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.keeping.store.jobs import list_jobs
from predictive_scoring.keeping.store.opening import open_store
from predictive_scoring.keeping.store.rescoring import backlog
from predictive_scoring.live.champion import ChampionFollower
from predictive_scoring.live.worker import Worker

url, bundles, lease, limit = sys.argv[1:]

def is_done(store):
    def read(tx):
        return backlog(tx, 0).waiting == 0 and all(job.state == "done" for job in list_jobs(tx))
    return store.read(read)

def work():
    store = open_store(url, wait=30)
    crm = Endpoint("crm", "https://crm.example.com/hook", ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",))
    worker = Worker(
        store, ChampionFollower(BundleStore(Path(bundles))), world(), name=f"w{os.getpid()}", keep_scores=10**7,
        endpoints=[crm], lease=int(lease), limit=int(limit),
    )
    os.write(1, b"begun\\n")
    while not is_done(store):
        if not worker.round():
            time.sleep(0.02)

# Everything is imported once; each worker is a process of its own.
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.write(1, f"{child}\\n".encode())
    _, status = os.waitpid(child, 0)
    os.write(1, f"ended {os.waitstatus_to_exitcode(status)}\\n".encode())
"""


@contextmanager
def workers(url: str, bundles: Path, limit: int) -> Iterator[tuple[IO[str], IO[str]]]:
    """A process that starts a worker for each line it is sent, and says its id, when it began, and how it ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", FORKER, url, str(bundles), str(LEASE), str(limit)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        yield process.stdin, process.stdout
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def kill_some(
    url: str, bundles: Path, chance: random.Random, kills: int, *, limit: int, longest: float
) -> int:
    """Start a worker again and again and kill each one, `longest` seconds after it began at most; the last one may
    finish. How many were killed before they had finished."""
    killed = 0
    with workers(url, bundles, limit) as (asked, told):
        for number in range(kills + 1):
            asked.write("go\n")
            asked.flush()
            lines = {told.readline().strip(), told.readline().strip()}
            assert "begun" in lines, lines
            if number < kills:
                time.sleep(chance.uniform(0.0, longest))
                # It may have finished already.
                with suppress(ProcessLookupError):
                    os.kill(int((lines - {"begun"}).pop()), signal.SIGKILL)
            ended = told.readline().strip()
            killed += ended == "ended -9"
            assert ended in ("ended -9", "ended 0"), ended
    assert ended == "ended 0"
    return killed


def work_calmly(url: str, bundles: Path) -> None:
    """The same work, done by one worker that nobody kills."""
    store = open_store(url)
    crm = Endpoint("crm", "https://crm.example.com/hook", ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",))
    follower = ChampionFollower(BundleStore(bundles))
    worker = Worker(store, follower, Clock().world(), name="calm", keep_scores=10**7, endpoints=[crm])
    while worker.round():
        pass
    store.close()


def kept(store: Store) -> dict[str, Any]:
    """What a reader sees of the work: scores, messages and jobs, without numbers and times of the work itself."""

    def rows(table: Any, *names: str) -> Counter[tuple[Any, ...]]:
        columns = [table.c[name] for name in names]
        return Counter(tuple(row) for row in store.read(lambda tx: tx.rows(select(*columns))))

    jobs = store.read(list_jobs)
    return {
        "scores": rows(tables.scores, "lead_id", "as_of", "document", "vector"),
        "latest": rows(tables.latest_scores, "lead_id", "as_of", "score", "readiness"),
        "messages": rows(tables.outbox, "lead_id", "destination"),
        "jobs": [(job.job_id, job.state, job.total, job.done, job.failed) for job in jobs],
        "waiting": rows(tables.rescoring, "lead_id"),
    }


def prepared(url: str, project: SmallProject, leads: int) -> Store:
    """A store whose leads wait for their first score, and for a job."""
    store = open_store(url)
    ids = fill(store, project, leads, 0)
    store.write(lambda tx: create_job(tx, "score", {}, now=0, actor="key", lead_ids=[*ids, "nobody"]))
    return store
