"""Writers of a store that are killed: real processes, and what they leave behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from predictive_scoring.keeping.store import tables

if TYPE_CHECKING:
    from predictive_scoring.keeping.store.connection import Store

BATCH = 40
"""Messages of one batch: events, and a trait that makes a change."""

WRITERS = """
import os, resource, signal, sys
from predictive_scoring.errors import StoreUnavailable
from predictive_scoring.keeping.store.ingestion import ingest
from predictive_scoring.keeping.store.messages import Message
from predictive_scoring.keeping.store.opening import open_store

url, folder, batch, limit, *names = sys.argv[1:]
T = 1_790_000_000

def write(name):
    store = open_store(url, wait=30)
    log = os.open(f"{folder}/{name}.acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    if int(limit):
        # A file may not grow beyond: for a writer that is a full disk.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    os.write(1, f"{os.getpid()}\\n".encode())
    for number in range(10**6):
        lead = f"L-{number % 7}"
        events = [
            Message(f"{name}/{number}/{n}", T + number, T + number, lead, event_type="page_view", properties={"n": n})
            for n in range(int(batch) - 1)
        ]
        told = Message(f"{name}/{number}", T + number, T + number, f"{name}-{number}", traits={"batch": number})
        try:
            store.write(lambda tx: ingest(tx, [*events, told]))
        except StoreUnavailable as refused:
            # The store is still there for who reads.
            store.read(lambda tx: tx.counter("history"))
            os.write(1, f"{refused.name} {refused.what}\\n".encode())
            os._exit(4)
        os.write(log, f"{number}\\n".encode())

# Everything is imported once; each writer then opens the store for itself.
for name in names:
    if os.fork() == 0:
        write(name)
for name in names:
    os.wait()
"""


def start(url: str, folder: Path, *names: str, limit: int = 0) -> tuple[subprocess.Popen[str], list[int]]:
    """A process whose children, one per name, write batch after batch, and note each one in `NAME.acknowledged`
    once it was answered; and the ids of these children."""
    parent = subprocess.Popen(
        [sys.executable, "-c", WRITERS, url, str(folder), str(BATCH), str(limit), *names],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert parent.stdout is not None
    return parent, [int(parent.stdout.readline()) for _ in names]


def kill_writers(
    url: str, folder: Path, chance: random.Random, round_number: int, writers: int, longest: float = 0.4
) -> None:
    """Start writers, and kill each at a moment of its own, up to `longest` seconds after the one before."""
    names = [f"w{round_number}-{number}" for number in range(writers)]
    parent, children = start(url, folder, *names)
    deadline = time.monotonic() + 60
    while not any((folder / f"{name}.acknowledged").stat().st_size for name in names):
        assert time.monotonic() < deadline, "no writer gets through"
        time.sleep(0.01)
    for child in children:
        time.sleep(chance.uniform(0.02, longest))
        os.kill(child, signal.SIGKILL)
    parent.communicate(timeout=30)


def first_refusal(url: str, folder: Path, name: str, limit: int = 0) -> str:
    """Writes until the store refuses, and says with which error."""
    parent, _ = start(url, folder, name, limit=limit)
    told, _ = parent.communicate(timeout=120)
    return told.strip()


def judge(store: Store, folder: Path) -> tuple[int, int]:
    """(batches kept, batches acknowledged), after a look that none is partial and none acknowledged is missing."""
    events, leads, changes = tables.events, tables.leads, tables.attribute_changes
    kept: dict[str, int] = {}
    for row in store.read(lambda tx: tx.rows(select(events.c.event_id))):
        batch = row.event_id.rpartition("/")[0]
        kept[batch] = kept.get(batch, 0) + 1
    assert set(kept.values()) <= {BATCH - 1}, "a batch is there in part"
    told = {row.lead_id for row in store.read(lambda tx: tx.rows(select(leads.c.lead_id)))}
    assert {batch.replace("/", "-") for batch in kept} == {lead for lead in told if not lead.startswith("L-")}
    noted = store.read(lambda tx: tx.rows(select(func.count()).select_from(changes))[0][0])
    assert noted == len(kept)
    acknowledged = {
        f"{file.stem}/{line}"
        for file in folder.glob("*.acknowledged")
        for line in file.read_text().splitlines()
    }
    assert acknowledged <= set(kept), "a batch that was answered is lost"
    return len(kept), len(acknowledged)
