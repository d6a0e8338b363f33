"""Tables in: project file and sources.

`load_project` reads `scoring.yaml`; `open_tables` reads its sources into the canonical tables that every
floor above expects (epoch seconds, text keys, declared columns only), or refuses with the file, column
and example at fault. Nothing is written, so a refusal leaves nothing behind.

Files are always read and checked by DuckDB (`reading`) and then handed to the engine; what lies in a database or
on a cluster is read by the engine in its place (`in_place`). Leads and touches become frames either way.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from predictive_scoring.data.canonical import CanonicalColumn, quoted
from predictive_scoring.data.engines import Duckdb, Engine, connect_duckdb, open_engine
from predictive_scoring.data.histories import lead_records
from predictive_scoring.data.in_place import fetch_in_place, log_in_place
from predictive_scoring.data.reading import canonicalise, read_files, refuse_duplicates, refuse_empty
from predictive_scoring.errors import InvalidSetting, UnknownLead, UnreadableFile
from predictive_scoring.schema import LEAD_CREATED, Lead
from predictive_scoring.settings import Project, TableSource, parse_project

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.backends.duckdb import Backend


@dataclass(frozen=True)
class ProjectFile:
    """A parsed project and where it lies, for the relative paths in it."""

    project: Project
    path: Path

    @property
    def data_root(self) -> Path:
        return (self.path.parent / expand_variables(self.project.data_root)).resolve()

    def locate(self, path: str) -> str:
        """Where a source's path points to: variables filled in, relative to `data_root` unless it is an address
        (`s3a://…`). Raises UnreadableFile when a variable is not set."""
        expanded = expand_variables(path)
        return expanded if "://" in expanded else str(self.data_root / expanded)

    def read_beside(self, name: str) -> str:
        """Text of a file named relative to the project file. Raises UnreadableFile."""
        return read_text(self.path.parent / name)


def expand_variables(text: str) -> str:
    """`${NAME:-default}` and `${NAME}` from the environment. Raises UnreadableFile when unset."""

    def value(found: re.Match[str]) -> str:
        answer = os.environ.get(found[1]) or found[2]
        if answer is None:
            raise UnreadableFile(
                what=f"the environment variable {found[1]} is not set",
                where=text,
                remedy=f"Set {found[1]} to the folder that holds the data.",
            )
        return answer

    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", value, text)


def read_text(path: Path) -> str:
    """The UTF-8 text of a file. Raises UnreadableFile."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as refused:
        raise UnreadableFile(
            what=f"cannot read the file: {reason_of(refused)}",
            where=str(path),
            remedy="Check the path, the permissions, and that it is UTF-8 text.",
        ) from refused


def reason_of(refused: Exception) -> str:
    """The operating system's own words for a refusal."""
    return (refused.strerror or str(refused)) if isinstance(refused, OSError) else str(refused)


def load_project(path: str | Path) -> ProjectFile:
    """The project in a `scoring.yaml`. Raises UnreadableFile or InvalidDocument (with line)."""
    where = Path(path)
    return ProjectFile(parse_project(read_text(where), str(path)), where.resolve())


@dataclass(frozen=True)
class Tables:
    """The canonical tables of one project, on one engine.

    `leads` is a frame with `lead_id` (text), `created` (epoch seconds), raw attribute and contact columns.
    `events` is an Ibis table (see `features.batch`), `lead_created` included. `attribute_changes`, where the
    project has such a source, is one too, of the columns that attributes read: `event_type` is the attribute,
    `event_id` and `value` are the new value (the empty text: cleared). `outcome` (snapshots only) has the 0/1
    label per row of `leads`, in file order. `observed_until` (epoch seconds) is how far the log is complete."""

    project: Project
    engine: Engine
    leads: pd.DataFrame
    events: ir.Table
    touches: pd.DataFrame
    observed_until: int
    outcome: pd.Series | None = None
    ignored_columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    attribute_changes: ir.Table | None = None

    def lead(self, lead_id: str) -> Lead:
        """One stored lead with its whole history. Raises UnknownLead."""
        found = self.stored_leads([lead_id])
        if lead_id not in found:
            raise UnknownLead(
                what=f"no lead is called {lead_id!r}",
                where="sources.leads" if self.outcome is None else "sources.snapshot",
                remedy=f"Ids look like {self.leads['lead_id'].iloc[0]!r}."
                if len(self.leads)
                else "It is empty.",
            )
        return found[lead_id]

    def stored_leads(self, lead_ids: Iterable[str]) -> dict[str, Lead]:
        """Stored leads with their whole histories by id, in one query per log; unknown ids are left out."""
        wanted = list(dict.fromkeys(lead_ids))
        rows = self.leads[self.leads["lead_id"].isin(wanted)]
        logged = self.events.filter(
            self.events["lead_id"].isin(wanted), self.events["event_type"] != LEAD_CREATED
        ).to_pandas()
        touches = self.touches[self.touches["lead_id"].isin(wanted)]
        history = self.attribute_changes
        changes = None if history is None else history.filter(history["lead_id"].isin(wanted)).to_pandas()
        return lead_records(rows, logged, touches, tuple(self.project.event_properties), changes)


def open_tables(loaded: ProjectFile, engine: Engine | None = None) -> Tables:
    """Read every source of the project into canonical tables, on `engine` (default: a DuckDB of their own, in
    memory), which must stay open as long as they are used.

    Raises UnreadableFile, MissingColumn, InvalidValue, NaiveTimestamp, DuplicateKey, InvalidSetting."""
    engine = engine or open_engine()
    reader = engine.backend if isinstance(engine, Duckdb) else connect_duckdb()
    opening = _Opening(loaded, engine, reader)
    try:
        return _snapshot(opening) if loaded.project.is_snapshot else _log(opening)
    finally:
        if reader is not engine.backend:
            reader.disconnect()


@dataclass(frozen=True)
class _Opening:
    """The reading of one project: files by `reader` (DuckDB), the rest by `engine`."""

    loaded: ProjectFile
    engine: Engine
    reader: Backend

    def path(self, source: TableSource) -> str | None:
        return None if source.path is None else self.loaded.locate(source.path)

    def rows(self, name: str, source: TableSource, columns: tuple[CanonicalColumn, ...]) -> tuple[str, ...]:
        """Make the source a canonical table of `reader` called `name`, with `row_number`; its raw columns."""
        where, raw = f"sources.{name}", f"raw_{name}"
        held = self.engine.in_place(source, self.path(source))
        if held is None:
            read_files(self.reader, raw, source, self.loaded.locate, where)
            found = tuple(column for column in _columns(self.reader, raw) if column != "row_number")
        else:
            found = fetch_in_place(held, source, self.path(source), columns, where, self.reader, raw)
        canonicalise(self.reader, raw, name, columns, source.time_zone, where)
        for column in columns:
            if column.kind == "key":
                refuse_empty(self.reader, name, column.canonical, where)
        return found

    def frame(self, name: str, order: str) -> pd.DataFrame:
        """Takes the canonical table out of `reader`, in the given order."""
        frame: pd.DataFrame = self.reader.raw_sql(f"SELECT * FROM {quoted(name)} ORDER BY {order}").df()
        self.reader.raw_sql(f"DROP TABLE {quoted(name)}")
        return frame.drop(columns="row_number")

    def log(
        self,
        name: str,
        source: TableSource,
        columns: tuple[CanonicalColumn, ...],
        unique: str | None = None,
        more: str | None = None,
    ) -> tuple[ir.Table, tuple[str, ...]]:
        """The source as a canonical table of the engine, and its raw columns. `more` is a query of `reader` for
        further rows with the same columns."""
        held = self.engine.in_place(source, self.path(source))
        names = [column.canonical for column in columns]
        if held is not None:
            table, found = log_in_place(held, source, self.path(source), columns, f"sources.{name}", unique)
            if more is None:
                return table, found
            self.reader.raw_sql(f"CREATE OR REPLACE TABLE added_rows AS {more}")
            added = self.engine.adopt(self.reader, "added_rows")
            return table.union(added.select(*names).cast(table.schema())), found
        found = self.rows(name, source, columns)
        if unique is not None:
            refuse_duplicates(self.reader, name, unique, f"sources.{name}")
        listed = ", ".join(quoted(column) for column in names)
        also = "" if more is None else f" UNION ALL BY NAME {more}"
        self.reader.raw_sql(f"CREATE OR REPLACE TABLE whole_{name} AS SELECT {listed} FROM {name}{also}")
        self.reader.raw_sql(f"DROP TABLE {name}")
        return self.engine.adopt(self.reader, f"whole_{name}"), found


TOUCHES = (
    CanonicalColumn("touch_id", "key"),
    CanonicalColumn("lead_id", "key"),
    CanonicalColumn("action_id", "key"),
    CanonicalColumn("channel", "key"),
    CanonicalColumn("occurred_at", "instant", "occurred"),
)
CHANGES = (
    CanonicalColumn("lead_id", "key"),
    CanonicalColumn("attribute", "key"),
    CanonicalColumn("value", "category"),
    CanonicalColumn("occurred_at", "instant", "occurred"),
    CanonicalColumn("known_at", "instant", "known", optional="occurred"),
)


def _log(opening: _Opening) -> Tables:
    project = opening.loaded.project
    sources = project.sources
    if sources.leads is None or sources.events is None:
        raise AssertionError("the settings demand both sources of an event log")
    lead_columns = (
        CanonicalColumn("lead_id", "key"),
        CanonicalColumn("created_at", "instant", "created"),
        *_attribute_columns(project),
    )
    event_columns = (
        CanonicalColumn("event_id", "key"),
        CanonicalColumn("lead_id", "key"),
        CanonicalColumn("event_type", "key"),
        CanonicalColumn("occurred_at", "instant", "occurred"),
        CanonicalColumn("known_at", "instant", "known", optional="occurred"),
        *(CanonicalColumn(name, kind) for name, kind in project.event_properties.items()),
    )
    lead_names = opening.rows("leads", sources.leads, lead_columns)
    refuse_duplicates(opening.reader, "leads", "lead_id", "sources.leads")
    kinds = {"number": "DOUBLE", "category": "VARCHAR"}
    properties = "".join(
        f", CAST(NULL AS {kinds[kind]}) AS {quoted(name)}" for name, kind in project.event_properties.items()
    )
    creations = (
        f"SELECT '{LEAD_CREATED}:' || lead_id AS event_id, lead_id, '{LEAD_CREATED}' AS event_type, "
        f"created AS occurred, created AS known{properties} FROM leads"
    )
    events, event_names = opening.log("events", sources.events, event_columns, "event_id", creations)
    touches = pd.DataFrame({column.canonical: [] for column in TOUCHES})
    if sources.touches is not None:
        opening.rows("touches", sources.touches, TOUCHES)
        refuse_duplicates(opening.reader, "touches", "touch_id", "sources.touches")
        touches = opening.frame("touches", "row_number")
    observed_until = project.observed_until
    if observed_until is None:
        latest = events["known"].max().to_pandas()
        observed_until = 0 if pd.isna(latest) else int(latest)
    ignored = {
        "leads": _unread(project, lead_names, lead_columns),
        "events": _unread(project, event_names, event_columns),
    }
    return Tables(
        project,
        opening.engine,
        opening.frame("leads", "lead_id"),
        events,
        touches,
        observed_until,
        ignored_columns=ignored,
        attribute_changes=_changes(opening),
    )


def _changes(opening: _Opening) -> ir.Table | None:
    """The history of the columns that the project's attributes read."""
    project = opening.loaded.project
    source = project.sources.attribute_changes
    # Also of attributes that are declared immutable: the audit looks whether they are.
    read = sorted({setting.of or name for name, setting in project.attributes.items()})
    if source is None or not read:
        return None
    table, _ = opening.log("attribute_changes", source, CHANGES)
    value = table["value"].fill_null("")
    return table.filter(table["attribute"].isin(read)).select(
        "lead_id", "occurred", "known", event_id=value, event_type=table["attribute"], value=value
    )


def _snapshot(opening: _Opening) -> Tables:
    import ibis

    project = opening.loaded.project
    source, conversion = project.sources.snapshot, project.conversion
    if source is None or conversion.column is None:
        raise AssertionError("the settings demand source and column of a snapshot")
    if source.table is not None:
        raise InvalidSetting(
            what="a table of a database has no order, and a snapshot is split by the order of its rows",
            where="sources.snapshot",
            remedy="Write `sql: SELECT … ORDER BY` the time of the rows, oldest first.",
        )
    columns = (
        CanonicalColumn("lead_id", "key", optional="'row-' || row_number"),
        CanonicalColumn(conversion.column, "category", "outcome"),
        *_attribute_columns(project),
    )
    names = opening.rows("snapshot", source, columns)
    refuse_duplicates(opening.reader, "snapshot", "lead_id", "sources.snapshot")
    frame = opening.frame("snapshot", "row_number")
    outcome = (frame.pop("outcome") == conversion.positive).astype("int64")
    frame.insert(1, "created", project.observed_until)
    texts, instants = ("lead_id", "event_id", "event_type"), ("occurred", "known")
    schema = {**dict.fromkeys(texts, "string"), **dict.fromkeys(instants, "int64")}
    opening.reader.create_table("no_events", schema=ibis.schema(schema), overwrite=True)
    return Tables(
        project,
        opening.engine,
        frame,
        opening.engine.adopt(opening.reader, "no_events"),
        pd.DataFrame({column.canonical: [] for column in TOUCHES}),
        int(project.observed_until or 0),
        outcome,
        {"snapshot": _unread(project, names, columns)},
    )


def _attribute_columns(project: Project) -> tuple[CanonicalColumn, ...]:
    """The columns of leads that attributes, contact rules and the conversion read, each once.

    Raises InvalidSetting when one column would have to be of two types."""
    wanted: list[CanonicalColumn] = []
    for name, setting in project.attributes.items():
        if not setting.history:
            kind = setting.type if setting.transform is None else "category"
            wanted.append(CanonicalColumn(setting.of or name, kind))
    flags = {*project.contact.consent.values(), project.contact.do_not_contact, project.contact.opted_out}
    read = {column.name for column in wanted}
    wanted += [
        CanonicalColumn(name, "flag" if name in flags else "category")
        for name in project.contact.columns
        if name not in read
    ]
    until = project.conversion.until
    wanted += [CanonicalColumn(until, "instant")] if until else []
    columns = tuple(dict.fromkeys(wanted))
    for column in columns:
        others = [other for other in columns if other.name == column.name and other != column]
        if others:
            raise InvalidSetting(
                what=f"the column {column.name!r} is read both as {column.kind} and as {others[0].kind}",
                where=f"attributes, {column.name}",
                remedy="Give one of the two a column of its own (a `sql` source can copy it).",
            )
    return columns


def _columns(reader: Backend, table: str) -> list[str]:
    return [str(name) for name, *_ in reader.raw_sql(f"DESCRIBE {quoted(table)}").fetchall()]


def _unread(project: Project, names: Iterable[str], columns: tuple[CanonicalColumn, ...]) -> tuple[str, ...]:
    """Raw columns that nothing reads and nothing explains: no leak, no attribute with a history."""
    dated = {setting.of or name for name, setting in project.attributes.items() if setting.history}
    known = {column.name for column in columns} | set(project.leaks) | dated
    return tuple(name for name in names if name not in known)
