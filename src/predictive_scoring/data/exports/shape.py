"""What every known export becomes: queries for the sources, and what is known about the product's columns.

A query reads any spelling of its columns (DuckDB compares names without case) and leaves out what the export lacks.
"""

# ruff: noqa: E501, S608  SQL over the user's own files, every name through canonical.quoted

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from predictive_scoring.data.canonical import quoted
from predictive_scoring.data.draft_text import SourceQuery


@dataclass(frozen=True)
class ExportFile:
    """One file: its path and its columns as they are written."""

    path: Path
    columns: tuple[str, ...]

    def find(self, *names: str) -> str | None:
        """The first of `names` that is a column, as it is written in the file."""
        written = {column.casefold(): column for column in self.columns}
        return next((written[name.casefold()] for name in names if name.casefold() in written), None)

    def has(self, *names: str) -> bool:
        """All of `names` are columns."""
        return all(self.find(name) for name in names)

    def text(self, *names: str, alias: str = "") -> str:
        """SQL of the first of `names` that exists, as text; NULL where none does."""
        column = self.find(*names)
        prefix = f"{alias}." if alias else ""
        return f"CAST({prefix}{quoted(column)} AS VARCHAR)" if column else "CAST(NULL AS VARCHAR)"

    def moment(self, *names: str, alias: str = "", kind: str = "TIMESTAMPTZ") -> str:
        """SQL of the first time among the columns `names` that is filled; NULL where none exists."""
        prefix = f"{alias}." if alias else ""
        found = [
            f"TRY_CAST({prefix}{quoted(column)} AS {kind})" for name in names if (column := self.find(name))
        ]
        return f"coalesce({', '.join(found)})" if len(found) > 1 else (found or [f"CAST(NULL AS {kind})"])[0]

    def flag(self, *names: str, alias: str = "") -> str:
        """SQL of a true/false column; false where it is empty or does not exist."""
        column = self.find(*names)
        prefix = f"{alias}." if alias else ""
        return f"coalesce(TRY_CAST({prefix}{quoted(column)} AS BOOLEAN), false)" if column else "false"

    def unless(self, *names: str, alias: str = "") -> str:
        """SQL condition that a true/false column is not true; empty where none exists."""
        return f"NOT {self.flag(*names, alias=alias)}" if self.find(*names) else ""

    def number(self, *names: str, alias: str = "") -> str:
        """SQL of a number; NULL where no such column exists."""
        return f"TRY_CAST({self.text(*names, alias=alias)} AS DOUBLE)"


@dataclass(frozen=True)
class Join:
    """Rows that should belong to a lead: `sql` yields for each whether it does, from the files in `tables`."""

    what: str
    sql: str
    tables: Mapping[str, Path]


@dataclass(frozen=True)
class Unsafe:
    """Columns by the pattern of their names that today's value would leak through. What is written `by_sales` with the
    outcome is not read from its history either."""

    pattern: str
    reason: str
    by_sales: bool = False

    def fits(self, name: str) -> bool:
        """Whether the whole name has the pattern, without case."""
        return re.fullmatch(self.pattern, name, re.IGNORECASE) is not None


@dataclass(frozen=True)
class Export:
    """A recognised export.

    `leads` answers with `lead_id`, `created_at` and the columns asked for by name (of `columns`: name -> column as
    written); `changes` answers with `lead_id`, `attribute`, `value`, `occurred_at` for the attributes asked for, or for
    all. `events` has `event_id`, `lead_id`, `event_type`, `occurred_at` and properties. `conversions` are event types
    with how they are read, the most telling first. `excluded`: event type -> property -> values that were no act of a person."""

    product: str
    files: tuple[str, ...]
    columns: Mapping[str, str]
    leads: Callable[[Sequence[str]], SourceQuery]
    events: SourceQuery
    types: tuple[str, ...]
    conversions: tuple[tuple[str, str], ...]
    unsafe: tuple[Unsafe, ...]
    changes: Callable[[Sequence[str] | None], SourceQuery] | None = None
    excluded: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    joins: tuple[Join, ...] = ()
    notes: tuple[str, ...] = ()


def event_log(persons: str, branches: Iterable[str]) -> str:
    """One log of the acts that `branches` select (`event_id`, `person`, `event_type`, `occurred_at`, properties).

    `persons` are common table expressions that end in one called `person` (`person_id`, `lead_id`)."""
    union = "\nUNION ALL BY NAME\n".join(branch.strip() for branch in branches)
    return f"""
WITH {persons.strip()},
act AS (
{union}
)
SELECT act.* EXCLUDE (person), person.lead_id
FROM act JOIN person ON person.person_id = act.person
WHERE event_type IS NOT NULL AND occurred_at IS NOT NULL
-- A row that was exported twice counts once.
QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY occurred_at) = 1
"""


def where(*conditions: str) -> str:
    """A WHERE of the conditions that are not empty; empty if none is."""
    said = [condition for condition in conditions if condition]
    return f"WHERE {' AND '.join(said)}" if said else ""


def listed(texts: Iterable[str]) -> str:
    """SQL texts with commas between them."""
    return ", ".join("'" + text.replace("'", "''") + "'" for text in texts)
