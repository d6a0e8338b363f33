"""Folders and files that appear whole or not at all, and what a killed writer left of them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

PREFIX = ".draft-"


@contextlib.contextmanager
def draft_folder(into: Path) -> Iterator[Path]:
    """An empty folder beside its later place, for the caller to fill and rename; removed if that fails.

    One writer at a time (the lock on `into` dies with its holder), so any draft found here is a killed writer's and is
    swept away. Raises OSError."""
    into.mkdir(parents=True, exist_ok=True)
    with _locked(into):
        for left in into.glob(f"{PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(prefix=PREFIX, dir=into))
        try:
            yield draft
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise


def make_once(path: Path, make: Callable[[Path], None]) -> None:
    """Have the file `path`: where it is missing or empty, `make` writes it under another name, and it appears whole.

    One writer at a time, so that drafts found beside it are a killed writer's. Raises OSError and what `make` does."""
    if _is_there(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        if _is_there(path):
            return
        prefix = f"{PREFIX}{path.name}-"
        for left in path.parent.glob(f"{prefix}*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
        try:
            make(folder / path.name)
            (folder / path.name).replace(path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _is_there(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)
