"""How every verb answers: words for people on the terminal, or one JSON document on stdout; a named error
with its exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from predictive_scoring.errors import PredictiveScoringError

# A pipe has no width of its own; 120 keeps sentences whole in files and logs.
people = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
aside = Console(stderr=True, highlight=False)
"""Progress and complaints go to stderr, so that stdout holds the answer alone."""


def print_json(document: object) -> None:
    """One JSON document on stdout."""
    json.dump(document, sys.stdout, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


@contextmanager
def answering(as_json: bool) -> Iterator[None]:
    """Turn a named error into its message and exit code; with `--json` into a JSON document as well."""
    try:
        yield
    except PredictiveScoringError as refused:
        if as_json:
            print_json(refused.to_document())
        aside.print(f"[bold red]{refused.name}[/]: {_plain(refused.what)}", soft_wrap=True)
        aside.print(f"  where: {_plain(refused.where)}", soft_wrap=True)
        aside.print(f"  to do: {_plain(refused.remedy)}", soft_wrap=True)
        raise typer.Exit(refused.exit_code) from refused


def _plain(text: str) -> str:
    """Text in which rich sees no markup."""
    return text.replace("[", "\\[")


@contextmanager
def steps(title: str) -> Iterator[Callable[[str], None]]:
    """A spinner on stderr whose line tells the step under way; each finished step stays visible."""
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=aside
    ) as bar:
        current = bar.add_task(title, total=None)

        def say(text: str) -> None:
            nonlocal current
            bar.update(current, total=1, completed=1)
            current = bar.add_task(text, total=None)

        yield say
        bar.update(current, total=1, completed=1)


@contextmanager
def counted(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on stderr, fed with (done, total); None where no total is known."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=aside,
    ) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def percent(value: float | None, digits: int = 1) -> str:
    """`18.3 %`, or a dash for no value."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def show(value: Any) -> str:
    """A cell of a table for people."""
    return "-" if value is None else str(value)
