"""A scoring job that is killed: the real command in a process group of its own, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from conftest import SmallProject

PROGRAM = Path(sys.executable).with_name("predictive-scoring")
SECONDS = 240
"""The command must have come to the moment by then, on a busy machine too."""


def draft_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.draft")


def has_part(out: Path) -> bool:
    """Whether some executor has begun to write."""
    # Spark moves files about meanwhile, which `os.walk` does not mind.
    return any(name.startswith("part-") for _, _, names in os.walk(draft_of(out)) for name in names)


def score_until(project: SmallProject, out: Path, moment: Callable[[], bool]) -> bool:
    """Start `score --engine spark` and kill it with all its processes once `moment()` holds. Whether it was
    killed; False: it had ended well by then."""
    options = ["--project", str(project.file), "--models", str(project.models), "--out", str(out)]
    log = out.with_suffix(".log")
    with log.open("wb") as told:
        run = subprocess.Popen(
            [PROGRAM, "score", *options, "--engine", "spark", "--master", "local[2]", "--json"],
            stdout=told,
            stderr=told,
            start_new_session=True,
        )
    deadline = time.monotonic() + SECONDS
    try:
        while run.poll() is None and not moment():
            assert time.monotonic() < deadline, log.read_text("utf-8")
            time.sleep(0.005)
    finally:
        killed = run.poll() is None
        if killed:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
    assert killed or run.returncode == 0, log.read_text("utf-8")
    return killed


def rows_of(out: Path) -> pd.DataFrame:
    """All rows of an output, in the order of its parts."""
    return pd.concat(
        [pd.read_parquet(part) for part in sorted(out.glob("part-*.parquet"))], ignore_index=True
    )
