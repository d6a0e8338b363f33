"""Verbs that kill themselves: real processes that die by SIGKILL just before their n-th lasting step.

A lasting step is a file opened for writing, renamed, removed or made, or a statement that changes a database. They are
counted by an audit hook and by SQLite's own trace, so nothing of the product knows that it is watched. One process
imports what takes seconds and forks a child for each kill; it never uses OpenMP itself, after which forks would hang.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

FORKER = textwrap.dedent(
    """
    import json, os, signal, sys, traceback

    import predictive_scoring.cli.modelling, predictive_scoring.comparison, predictive_scoring.training
    import sqlalchemy
    import mlflow.store.model_registry.sqlalchemy_store, mlflow.store.tracking.sqlalchemy_store
    from predictive_scoring.cli.app import app
    from predictive_scoring.keeping.champion import BundleStore
    from predictive_scoring.keeping.drafts import draft_folder
    from predictive_scoring.keeping.registry import Registry
    from pathlib import Path

    CHANGES = ("INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "COMMIT")
    MADE = ("os.rename", "os.mkdir", "os.link", "os.remove", "os.rmdir", "os.symlink", "os.truncate", "shutil.")

    def watch(last, told):
        steps = 0

        def step(what):
            nonlocal steps
            steps += 1
            if told is not None:
                told.write(f"{steps} {what}\\n")
            if steps == last:
                os.kill(os.getpid(), signal.SIGKILL)

        def heard(event, arguments):
            if event == "open":
                path, mode, flags = arguments
                writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(flags, int) else False
                if writes and isinstance(path, str) and "__pycache__" not in path and path != os.devnull:
                    step(f"open {path}")
            elif event.startswith(MADE):
                if not any("__pycache__" in str(one) for one in arguments):
                    step(f"{event} {arguments}")

        def connected(connection, _):
            connection.set_trace_callback(
                lambda sql: step(sql[:90]) if sql.lstrip().upper().startswith(CHANGES) else None
            )

        sys.addaudithook(heard)
        sqlalchemy.event.listen(sqlalchemy.Engine, "connect", connected)

    def promote(folder, uri, version):
        registry, store = Registry(uri), BundleStore(Path(folder))
        registry.promote(store, registry.version(store.folder.name, version), promoted_at="2026-08-01T00:00:00Z")

    def keep(folder, files):
        with draft_folder(Path(folder)) as draft:
            for name, text in json.loads(Path(files).read_text("utf-8")).items():
                (draft / name).write_text(text, "utf-8")
            draft.replace(Path(folder) / "kept")

    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            told = open(order["log"], "w", buffering=1)
            os.dup2(told.fileno(), 1), os.dup2(told.fileno(), 2)
            os.chdir(order["folder"])
            code = 1
            try:
                watch(order["last"], told)
                verb, *arguments = order["call"]
                if verb in ("promote()", "keep()"):
                    {"promote()": promote, "keep()": keep}[verb](*arguments)
                    code = 0
                else:
                    code = app([verb, *arguments], standalone_mode=False) or 0
            except BaseException as refused:
                traceback.print_exc()
                code = getattr(refused, "exit_code", 1)
            told.flush()
            os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    """
)


@dataclass(frozen=True)
class Killer:
    """The process that forks. `log` tells the steps of the last child, and what it printed."""

    orders: IO[str]
    answers: IO[str]
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "steps.log"

    def run(self, *call: object, last: int = 0) -> int:
        """The exit code of a verb with its options, or of the functions `promote()` and `keep()`; -9 for a child that
        died before its step `last` (0: never)."""
        order = {
            "call": [str(one) for one in call],
            "last": last,
            "log": str(self.log),
            "folder": str(self.folder),
        }
        self.orders.write(json.dumps(order) + "\n")
        self.orders.flush()
        return int(self.answers.readline())

    @property
    def steps(self) -> list[str]:
        """The lasting steps of the last child, in order."""
        lines = self.log.read_text("utf-8").splitlines()
        return [line.partition(" ")[2] for line in lines if line.partition(" ")[0].isdecimal()]

    def kill(self, last: int, *call: object) -> bool:
        """Run and kill at the step; whether it died there (False: it had ended well before)."""
        code = self.run(*call, last=last)
        if code not in (0, -signal.SIGKILL):
            raise AssertionError(f"exit {code} instead of a kill\n{self.log.read_text('utf-8')}")
        return code != 0


@contextmanager
def killer(folder: Path) -> Iterator[Killer]:
    """A forking process whose children work in `folder`."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Killer(process.stdin, process.stdout, folder)
        finally:
            process.stdin.close()
            process.wait(timeout=60)
