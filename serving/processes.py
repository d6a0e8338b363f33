"""The launcher's processes and what they use, as the kernel tells it."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

FILE = "processes.json"
"""In the launcher's folder: process id by name (`launcher`, `api-1`, `background`)."""


@dataclass(frozen=True)
class ProcessUse:
    """What a process uses now."""

    resident_bytes: int
    cpu_seconds: float
    open_descriptors: int
    threads: int


def processes_in(folder: Path | None) -> list[tuple[str, int]]:
    """Name and id of every process that the launcher started; this one alone where there is no launcher."""
    if folder is not None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            found = json.loads((folder / FILE).read_text("utf-8"))
            return [(str(name), int(number)) for name, number in sorted(found.items())]
    return [("api-1", os.getpid())]


def use_of(number: int) -> ProcessUse | None:
    """None where the process is gone, or the kernel keeps no /proc."""
    place = Path("/proc") / str(number)
    try:
        # The name, in brackets, may hold anything; the fields are counted behind it.
        fields = (place / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        opened = sum(1 for _ in (place / "fd").iterdir())
    except OSError:
        return None
    return ProcessUse(
        resident_bytes=int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
        cpu_seconds=(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
        open_descriptors=opened,
        threads=int(fields[17]),
    )
