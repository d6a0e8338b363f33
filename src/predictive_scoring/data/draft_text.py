"""The written form of a draft: YAML lines with their comments, and the blocks that both shapes share."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from predictive_scoring.data.canonical import quoted
from predictive_scoring.data.guesses import Contact, quote, scalar
from predictive_scoring.data.leak_screen import column_words
from predictive_scoring.data.profile import TableProfile


@dataclass(frozen=True)
class Draft:
    """The text of a project file, and in a few sentences what to check first."""

    text: str
    notes: tuple[str, ...]


@dataclass
class Page:
    """Lines of a project file in the making."""

    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *lines: str) -> None:
        self.lines += lines

    def comment(self, text: str, indent: str = "") -> None:
        """A comment, wrapped; `text` may hold names from the user's table, so line breaks are taken out."""
        line = f"{indent}#"
        for word in text.split():
            if len(line) + len(word) + 1 > 110:
                self.lines.append(line)
                line = f"{indent}#"
            line += f" {word}"
        self.lines.append(line)

    def note(self, text: str) -> None:
        """A sentence for the person who runs `init`."""
        self.notes.append(text)

    def finished(self) -> Draft:
        return Draft("\n".join(self.lines) + "\n", tuple(self.notes))


def head(page: Page, files: Sequence[str], name: str, description: str) -> None:
    """What the draft was made of, the project's name (from `name`) and description."""
    page.comment(f"Drafted by `predictive-scoring init` from {', '.join(files)}.")
    page.comment(
        "Every line is a guess with its reason above it. Read it once, then run `predictive-scoring validate`."
    )
    slug = "_".join(column_words(name))[:50]
    page.add(f"name: {scalar(slug if slug[:1].isalpha() else f'project_{slug}'.rstrip('_'))}")
    page.add(f"description: {scalar(description)}", "")


@dataclass
class Query:
    """How a source reads its file: as it is, or by a query that renames columns (name there -> SQL) and sorts."""

    table: TableProfile
    renamed: dict[str, str] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    """Columns of the file that a renamed one stands for."""
    taken: dict[str, str] = field(default_factory=dict)
    order_by: str | None = None
    local_times: bool = False

    def take(self, name: str, column: str) -> None:
        """Read the file's `column` under the product's `name`."""
        profile = self.table.columns[column]
        self.taken[name] = column
        self.local_times |= profile.naive
        # Local spellings of dates are read by queries only: there the whole file decides the types.
        if column != name or profile.only_typed:
            self.make(name, quoted(column), instead_of=column)

    def source_of(self, name: str) -> str | None:
        """The file's column that is read as the product's `name`."""
        return self.taken.get(name)

    def make(self, name: str, sql: str, *, instead_of: str | None = None) -> None:
        """Compute the product's `name`, hiding the file's column of that name and `instead_of`."""
        self.renamed[name] = sql
        self.dropped |= {column for column in (name, instead_of) if column in self.table.columns}

    def statement(self) -> str | None:
        """The query over the table `rows`; None where the plain file does."""
        if not self.renamed and self.order_by is None:
            return None
        others = (
            f"* EXCLUDE ({', '.join(quoted(name) for name in sorted(self.dropped))})" if self.dropped else "*"
        )
        if self.table.table:
            # Only DuckDB can leave columns out by name.
            others = ", ".join(quoted(name) for name in self.table.columns if name not in self.dropped)
        left = self.dropped != set(self.table.columns)
        parts = [f"{sql} AS {name}" for name, sql in self.renamed.items()] + ([others] if left else [])
        ordered = f"\nORDER BY {quoted(self.order_by)}" if self.order_by else ""
        return f"SELECT {', '.join(parts)}\nFROM {self.table.relation}{ordered}"


def source_block(page: Page, role: str, query: Query, relative_to: Path) -> None:
    """`sources.<role>`: path or query, and how its cells are to be read."""
    table = query.table
    page.add(f"  {role}:")
    statement = query.statement()
    file = None if table.table else scalar(beside(table.path, relative_to))
    if statement is None:
        page.add(f"    path: {file}" if file else f"    table: {scalar(str(table.table))}")
    else:
        page.add("    sql: |", *(f"      {line}" for line in statement.splitlines()))
        page.add(*([f"    tables: {{rows: {file}}}"] if file else []))
    if table.separator:
        page.add(f"    separator: {quote(table.separator)}")
    if table.missing:
        page.comment(
            "Check: these texts were found and usually mean that there is no value (NA is also Namibia).",
            "    ",
        )
        page.add(f"    missing: [{', '.join(scalar(text) for text in table.missing)}]")
    if query.local_times:
        page.comment(
            "Check: the times have no offset. If they are local times, write their zone, as Europe/Berlin.",
            "    ",
        )
        page.add("    time_zone: UTC")
        page.note(f"The times in {table.name} have no time zone; UTC is assumed.")


@dataclass(frozen=True)
class SourceQuery:
    """A source that is a query over several files: the reasons for it, and the files by their names in it."""

    sql: str
    tables: Mapping[str, Path]
    reasons: tuple[str, ...]
    local_times: bool = False


def query_block(page: Page, role: str, source: SourceQuery, relative_to: Path) -> None:
    """`sources.<role>` with the reasons above it. Only files that the query names are listed."""
    for reason in source.reasons:
        page.comment(reason, "  ")
    page.add(
        f"  {role}:", "    sql: |", *(f"      {line}".rstrip() for line in source.sql.strip().splitlines())
    )
    page.add("    tables:")
    page.add(*(f"      {name}: {scalar(beside(path, relative_to))}" for name, path in source.tables.items()))
    if source.local_times:
        page.comment(
            "Check: the times have no offset. If they are local times, write their zone, as Europe/Berlin.",
            "    ",
        )
        page.add("    time_zone: UTC")


def beside(path: Path, folder: Path) -> str:
    """The path as written in a file that lies in `folder`."""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def contact_block(page: Page, contact: Contact, withdrawn_by: Mapping[str, str]) -> None:
    """`contact`, if there is any column for it; `withdrawn_by` maps a channel to an event type."""
    if not contact.columns:
        page.add("")
        page.comment(
            "No consent columns were recognised, so no action is ever recommended. With them, write for example:"
        )
        page.comment("contact: {consent: {email: consent_email}, do_not_contact: do_not_contact}")
        return
    page.add("")
    page.comment(
        "Whom we may contact. Check: missing consent counts as no; opted_out means neither scored nor trained on."
    )
    page.add("contact:")
    if contact.consent:
        pairs = ", ".join(f"{channel}: {scalar(column)}" for channel, column in contact.consent.items())
        page.add(f"  consent: {{{pairs}}}")
    if withdrawn_by:
        page.add(
            f"  withdrawn_by: {{{', '.join(f'{channel}: [{event}]' for channel, event in withdrawn_by.items())}}}"
        )
    page.add(*(f"  {role}: {scalar(column)}" for role, column in contact.single.items()))


def closing(page: Page) -> None:
    """Split and readiness, the same for both shapes."""
    page.add("")
    page.comment("The newest fifth tests, the fifth before it calibrates, the rest trains.")
    page.add("split: {calibrate: 0.2, test: 0.2}")
    page.comment(
        "Check: the share of leads that sales can work. `weekly_capacity: 10` (event logs), or value_per_win with "
        "win_rate and cost_per_lead, say it better."
    )
    page.add("readiness: {share: 0.1}")
