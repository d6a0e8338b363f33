"""A first `scoring.yaml` from a user's own tables: every guess is written down with its reason.

One table is a snapshot (a row per lead with its outcome); two or three are leads, events and touches. The draft parses
and opens as it stands; `validate` then says what to look at. Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from predictive_scoring.data import guesses
from predictive_scoring.data.canonical import quoted
from predictive_scoring.data.draft_attributes import (
    attribute_blocks,
    drafted_attributes,
    set_aside_by_values,
    texts_of,
)
from predictive_scoring.data.draft_export import draft_export
from predictive_scoring.data.draft_log import draft_log
from predictive_scoring.data.draft_text import Draft, Page, Query, closing, contact_block, head, source_block
from predictive_scoring.data.exports.products import recognised
from predictive_scoring.data.guesses import plain, quote, scalar
from predictive_scoring.data.profile import TableProfile, is_text_file, literal
from predictive_scoring.data.warehouse_profile import warehouse_tables
from predictive_scoring.errors import InvalidSetting
from predictive_scoring.settings import parse_project
from predictive_scoring.timeline import format_instant

__all__ = ["Draft", "draft_project"]


def draft_project(
    paths: Sequence[Path],
    *,
    relative_to: Path,
    today: int,
    outcome: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Draft:
    """A commented project file for the CSV or Parquet tables at `paths`; a folder stands for the tables in it.

    `relative_to` is the folder that the file will lie in; `today` (epoch seconds) stands in where the tables hold no
    date; `outcome` names the outcome column of a snapshot, or the conversion event of a log, instead of guessing.
    `say` is told each step of the work.

    Raises UnreadableFile, and InvalidSetting when no outcome, conversion or known shape can be found."""
    files = _files(paths)
    page = Page()
    export = recognised(files) if len(files) > 1 or any(path.is_dir() for path in paths) else None
    if export is not None:
        draft_export(page, export, relative_to, today, outcome, say)
    else:
        tables = []
        for path in files:
            say(f"reading {path.name}")
            tables.append(TableProfile(path))
        if len(tables) == 1:
            say("looking for columns that tell the outcome")
            _draft_snapshot(page, tables[0], relative_to, today, outcome)
        else:
            draft_log(page, tables, relative_to, today, outcome)
    draft = page.finished()
    # A draft that its own reader refuses would be our fault: say so here, with the line.
    parse_project(draft.text, "the drafted scoring.yaml")
    return draft


def draft_warehouse(
    tables: Sequence[str],
    *,
    dsn: str,
    today: int,
    outcome: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Draft:
    """A commented project file for tables (`schema.table`) of the PostgreSQL database that `dsn` names: leads and
    events, perhaps touches and a history of attributes. The draft does not hold the `dsn`.

    Raises InvalidSetting, UnreadableFile and EnvironmentMissing."""
    if len(tables) < 2:
        raise InvalidSetting(
            what="one table of a database is not enough",
            where="init --dsn",
            remedy="Name the leads and the events table. A snapshot is read from a file, where its rows have an order.",
        )
    say("asking the database")
    page = Page()
    with warehouse_tables(dsn, tables) as profiles:
        draft_log(page, profiles, Path(), today, outcome)
    page.note(
        "The tables are in the database: give --engine postgres and --dsn to validate, train and score."
    )
    draft = page.finished()
    parse_project(draft.text, "the drafted scoring.yaml")
    return draft


def _files(paths: Sequence[Path]) -> list[Path]:
    if not paths:
        raise InvalidSetting(
            what="no table",
            where="init",
            remedy="Name one snapshot, the leads and events tables, or a folder.",
        )
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(
            file
            for file in path.iterdir()
            if file.is_file() and (is_text_file(file) or file.suffix == ".parquet")
        )
        if not inside:
            raise InvalidSetting(
                what="the folder holds no table",
                where=str(path),
                remedy="A table is a .csv, .tsv, .txt or .parquet file. Name the folder that holds them itself. Found: "
                + (", ".join(sorted(file.name for file in path.iterdir())[:10]) or "nothing")
                + ".",
            )
        files += inside
    return files


def _draft_snapshot(
    page: Page, table: TableProfile, relative_to: Path, today: int, outcome: str | None
) -> None:
    column, why = _outcome(table, outcome)
    positive, why_positive = _positive(table, column)
    contact = guesses.contact(table)
    query, used = Query(table), {column, *contact.columns}
    key = next((name for name in _named(table, guesses.LEAD_ID) if table.is_key(name)), None)
    if key is not None:
        query.take("lead_id", key)
        used.add(key)
    dates = [name for name in table.columns if table.columns[name].instant]
    dated = next(
        (name for name in _named(table, (*guesses.CREATED_AT, *guesses.OCCURRED_AT)) if name in dates), None
    )
    dated = dated or (dates[0] if len(dates) == 1 else None)
    if dated is not None and (table.columns[dated].only_typed or not table.is_in_order(dated)):
        query.order_by = dated

    head(page, [table.path.name], table.stem, f"Which leads have {plain(column)} = {positive}")
    page.add("sources:")
    page.comment("One row per lead with its outcome, oldest first: the newest rows are the test.", "  ")
    if dated is None:
        page.comment(
            "Check: no single date column was found, so the rows are taken to be in date order. If they are",
            "  ",
        )
        page.comment("not, add the date and read the table by `sql: SELECT * FROM rows ORDER BY …`.", "  ")
    elif query.order_by:
        page.comment(
            f"Check: the rows are sorted by {dated!r}; it must be the date on which a row was observed.", "  "
        )
    if key is None:
        page.comment(
            "Check: no column with one distinct value per row looks like a lead id, so rows are numbered.",
            "  ",
        )
    source_block(page, "snapshot", query, relative_to)
    _observed_until(page, table, dates, today)
    page.add("")
    page.comment(
        f"{why} {why_positive} `horizon`: how many days after a row was taken its outcome was waited for."
    )
    page.add(f"conversion: {{column: {scalar(column)}, positive: {quote(positive)}, horizon: 30d}}")
    page.note(f"The outcome is {column!r} = {positive!r}; the horizon of 30 days is a placeholder.")

    found = guesses.attributes(table.columns, table.rows, used, today_only=False)
    for other in _named(table, guesses.OUTCOME):
        if found.read.pop(other, None):
            found.leaks[other] = (
                "proposed because it is named like an outcome and another column was taken for it"
            )
    drafts = drafted_attributes(found, table.columns, texts_of(table))
    before = drafts.columns
    set_aside_by_values(
        drafts, table, f"{quoted(column)} = {literal(positive)}", key=None, order_by=query.order_by
    )
    if before and not drafts.read:
        raise InvalidSetting(
            what="every column tells the outcome alone, so none is left for the model to read",
            where=str(table.path),
            remedy=f"Check the outcome ({column!r}); export the columns as they were before it. Set aside: "
            f"{', '.join(drafts.leaks)}.",
        )
    if not drafts.read:
        raise InvalidSetting(
            what="no column is left for the model to read",
            where=str(table.path),
            remedy=f"Columns set aside: {', '.join((*drafts.leaks, *drafts.left_out)) or 'none'}. "
            "Add columns that say who the leads are.",
        )
    attribute_blocks(page, drafts, immutable=False)
    contact_block(page, contact, {})
    closing(page)


def _observed_until(page: Page, table: TableProfile, dates: Sequence[str], today: int) -> None:
    newest = [(table.columns[name].newest or 0, name) for name in dates]
    past = max((pair for pair in newest if pair[0] <= today), default=None)
    page.add("")
    if past is None:
        page.comment(
            "Placeholder, replace it: the table holds no past date, so the day of this draft stands here."
        )
        page.note("`observed_until` is a placeholder: write the day on which the table was exported.")
    else:
        page.comment(
            f"Check: the newest date in {past[1]!r}, taken for the day on which the table was exported."
        )
    page.add(f"observed_until: {format_instant(today if past is None else past[0])}")


def _named(table: TableProfile, names: tuple[str, ...]) -> list[str]:
    """Columns whose names stand in `names`, in that order."""
    return sorted(
        (column for column in table.columns if plain(column) in names),
        key=lambda column: names.index(plain(column)),
    )


def _outcome(table: TableProfile, outcome: str | None) -> tuple[str, str]:
    """The outcome column and why it was chosen."""
    two_valued = [
        name
        for name, column in table.columns.items()
        if 2 <= column.distinct <= 4 and len(table.levels(name, 3)) == 2
    ]
    where, columns = str(table.path), ", ".join(table.columns)
    if outcome is not None:
        if outcome not in table.columns:
            raise InvalidSetting(
                what=f"there is no column {outcome!r}", where=where, remedy=f"Columns found: {columns}."
            )
        if outcome not in two_valued:
            raise InvalidSetting(
                what=f"the column {outcome!r} has {len(table.levels(outcome, 200))} different values, not two",
                where=where,
                remedy="An outcome says converted or not. "
                + (
                    f"Columns with two values: {', '.join(two_valued)}."
                    if two_valued
                    else "Add such a column."
                ),
            )
        return outcome, f"The outcome column was named with --outcome: {outcome!r}."
    named = [name for name in _named(table, guesses.OUTCOME) if name in two_valued]
    if not named:
        raise InvalidSetting(
            what="no outcome column was recognised: none of the two-valued columns is named like an outcome",
            where=where,
            remedy=f"Columns with two values: {', '.join(two_valued) or 'none'}. Name the outcome with "
            "`--outcome COLUMN`; for leads with an event log, give both tables.",
        )
    return named[0], f"Check: {named[0]!r} has two values and is named like an outcome."


def _positive(table: TableProfile, column: str) -> tuple[str, str]:
    """The value that means converted, and why."""
    levels = table.levels(column, 2)
    known = [value for value in levels if value.casefold() in guesses.POSITIVE]
    if len(known) == 1:
        return known[0], f"{known[0]!r} is taken for converted."
    rare = min(levels, key=lambda value: levels[value])
    return rare, f"Check: {rare!r} is taken for converted because it is the rarer value."
