"""The written form of a draft: YAML lines with their comments, and the blocks that both shapes share."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from predictive_scoring.data.canonical import quoted
from predictive_scoring.data.guesses import Attributes, Contact, quote, scalar, spoken
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


def head(page: Page, tables: Sequence[TableProfile], description: str) -> None:
    """Name and description; the name is made from the first file's."""
    page.comment(
        "Drafted by `predictive-scoring init` from " + ", ".join(table.path.name for table in tables) + "."
    )
    page.comment(
        "Every line is a guess with its reason above it. Read it once, then run `predictive-scoring validate`."
    )
    slug = "_".join(column_words(tables[0].stem))[:50]
    page.add(f"name: {scalar(slug if slug[:1].isalpha() else f'project_{slug}'.rstrip('_'))}")
    page.add(f"description: {scalar(description)}", "")


@dataclass
class Query:
    """How a source reads its file: as it is, or by a query that renames columns (name there -> SQL) and sorts."""

    table: TableProfile
    renamed: dict[str, str] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    """Columns of the file that a renamed one stands for."""
    order_by: str | None = None
    local_times: bool = False

    def take(self, name: str, column: str) -> None:
        """Read the file's `column` under the product's `name`."""
        profile = self.table.columns[column]
        self.local_times |= profile.naive
        # Local spellings of dates are read by queries only: there the whole file decides the types.
        if column != name or profile.only_typed:
            self.make(name, quoted(column), instead_of=column)

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
        left = self.dropped != set(self.table.columns)
        parts = [f"{sql} AS {name}" for name, sql in self.renamed.items()] + ([others] if left else [])
        ordered = f"\nORDER BY {quoted(self.order_by)}" if self.order_by else ""
        return f"SELECT {', '.join(parts)}\nFROM rows{ordered}"


def source_block(page: Page, role: str, query: Query, relative_to: Path) -> None:
    """`sources.<role>`: path or query, and how its cells are to be read."""
    table = query.table
    path = scalar(Path(os.path.relpath(table.path.resolve(), relative_to.resolve())).as_posix())
    page.add(f"  {role}:")
    statement = query.statement()
    if statement is None:
        page.add(f"    path: {path}")
    else:
        page.add(
            "    sql: |",
            *(f"      {line}" for line in statement.splitlines()),
            f"    tables: {{rows: {path}}}",
        )
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
        page.note(f"The times in {table.path.name} have no time zone; UTC is assumed.")


def attribute_blocks(page: Page, found: Attributes, *, immutable: bool) -> None:
    """`attributes`, `leaks` and, as comments, the columns left out with the reason."""
    page.add("")
    page.comment("Who they are: what the model may read, each as it was known at the cutoff.")
    if immutable:
        page.comment(
            "Check each: only today's value exists, so remove every one that changes after the lead was created."
        )
    page.add("attributes:" if found.read else "attributes: {}")
    fixed = ", immutable: true" if immutable else ""
    page.add(
        *(
            f"  {scalar(name)}: {{type: {kind}, label: {scalar(spoken(name))}{fixed}}}"
            for name, kind in found.read.items()
        )
    )
    if found.left_out:
        page.add("")
        page.comment("Left out:")
        for name, reason in found.left_out.items():
            page.comment(f"{name}: {reason}", "  ")
    if found.leaks:
        page.add("")
        page.comment(
            "Proposed leaks, never read. Check each: if its value stood before the cutoff, move it to `attributes`. "
            "Keep here whatever is filled or changed by the outcome."
        )
        page.add("leaks:", *(f"  {scalar(name)}: {scalar(reason)}" for name, reason in found.leaks.items()))
        page.note(f"Proposed as leaks, check them: {', '.join(found.leaks)}.")


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
