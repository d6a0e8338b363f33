"""Disks that are full, and disks that fail when they are asked to make sure."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FSYNC = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* fsync as a failing disk answers it, while the file FAILING_DISK is there. */
static int fails(void) {
    const char *sign = getenv("FAILING_DISK");
    if (sign == NULL || access(sign, F_OK) != 0) return 0;
    errno = EIO;
    return 1;
}

int fsync(int fd) { return fails() ? -1 : ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd); }
int fdatasync(int fd) { return fails() ? -1 : ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd); }
"""


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A disk of so many megabytes, mounted at `folder`. Only root may mount; elsewhere the test skips and says so."""
    if os.geteuid() != 0:
        pytest.skip(
            "only root may mount a small disk; the store's own quick form limits the size of a file instead"
        )
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill_up(disk: Path, leave: int = 0) -> Path:
    """A file that takes all room but so many bytes; the room is there again when it is gone."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as stream:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while stream.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    os.truncate(ballast, ballast.stat().st_size - leave)
    return ballast


def failing_fsync(folder: Path) -> tuple[dict[str, str], Path]:
    """The environment of processes whose disk fails while the file exists that is given too; it does not yet.

    A library is put before the system's own. Without a C compiler the test skips and says so."""
    compiler = shutil.which("cc")
    if compiler is None or os.uname().sysname != "Linux":
        pytest.skip("a failing disk is imitated on Linux, with a C compiler")
    source, library, sign = folder / "fsync.c", folder / "fsync.so", folder / "the disk fails"
    source.write_text(FSYNC, "utf-8")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "FAILING_DISK": str(sign)}, sign
