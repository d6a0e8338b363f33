"""Tables in: the only module that opens the user's files.

`load_project` reads `scoring.yaml`; `open_tables` reads its sources into the canonical tables that every
floor above expects (epoch seconds, text keys, declared columns only), or refuses with the file, column
and example at fault. Nothing is written, so a refusal leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pandas as pd

from predictive_scoring.data.canonical import CanonicalColumn, canonical_select, first_row, quoted
from predictive_scoring.data.histories import lead_records
from predictive_scoring.errors import (
    DuplicateKey,
    InvalidSetting,
    InvalidValue,
    MissingColumn,
    UnknownLead,
    UnreadableFile,
)
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

    def read_beside(self, name: str) -> str:
        """Text of a file named relative to the project file. Raises UnreadableFile."""
        return read_text(self.path.parent / name)


QUERY_TYPES = ("BIGINT", "DOUBLE", "DATE", "TIMESTAMP", "TIMESTAMPTZ", "VARCHAR")
"""Types that columns of CSV files may take in a query. No BOOLEAN: yes and no would become true and false."""


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

    `leads` is a frame with `lead_id` (text), `created` (epoch seconds), attributes and contact columns.
    `events` is an Ibis table (see `features.batch`), `lead_created` included. `outcome` (snapshots only)
    has the 0/1 label per row of `leads`, in file order. `observed_until` (epoch seconds) is how far the
    log is complete."""

    project: Project
    connection: Backend
    leads: pd.DataFrame
    events: ir.Table
    touches: pd.DataFrame
    observed_until: int
    outcome: pd.Series | None = None
    ignored_columns: dict[str, tuple[str, ...]] = field(default_factory=dict)

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
        """Stored leads with their whole histories by id, in one query; unknown ids are left out."""
        wanted = list(dict.fromkeys(lead_ids))
        rows = self.leads[self.leads["lead_id"].isin(wanted)]
        logged = self.events.filter(
            self.events["lead_id"].isin(wanted), self.events["event_type"] != LEAD_CREATED
        )
        touches = self.touches[self.touches["lead_id"].isin(wanted)]
        return lead_records(rows, logged.to_pandas(), touches, tuple(self.project.event_properties))


def open_tables(loaded: ProjectFile) -> Tables:
    """Read every source of the project into canonical tables (DuckDB, in memory).

    Raises UnreadableFile, MissingColumn, InvalidValue, NaiveTimestamp, DuplicateKey, InvalidSetting."""
    import ibis

    connection = ibis.duckdb.connect()
    connection.raw_sql("SET TimeZone = 'UTC'")
    # A notebook without ipywidgets cannot set it, and shows none anyway.
    with contextlib.suppress(duckdb.InvalidInputException):
        connection.raw_sql("SET enable_progress_bar = false")
    return _snapshot(loaded, connection) if loaded.project.is_snapshot else _log(loaded, connection)


def _log(loaded: ProjectFile, connection: Backend) -> Tables:
    project = loaded.project
    leads_source, events_source = project.sources.leads, project.sources.events
    if leads_source is None or events_source is None:
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
    touch_columns = (
        CanonicalColumn("touch_id", "key"),
        CanonicalColumn("lead_id", "key"),
        CanonicalColumn("action_id", "key"),
        CanonicalColumn("channel", "key"),
        CanonicalColumn("occurred_at", "instant", "occurred"),
    )
    ignored = {
        "leads": _canonicalise(loaded, connection, "leads", leads_source, lead_columns),
        "events": _canonicalise(loaded, connection, "logged_events", events_source, event_columns),
    }
    _refuse_duplicates(connection, "leads", "lead_id", "sources.leads")
    _refuse_duplicates(connection, "logged_events", "event_id", "sources.events")
    if project.sources.touches is not None:
        _canonicalise(loaded, connection, "touches", project.sources.touches, touch_columns)
        touches = connection.table("touches").to_pandas()
    else:
        touches = pd.DataFrame({column.canonical: [] for column in touch_columns})
    properties = "".join(f", NULL AS {quoted(name)}" for name in project.event_properties)
    connection.raw_sql(
        "CREATE TABLE events AS SELECT * FROM logged_events UNION ALL BY NAME "
        f"SELECT '{LEAD_CREATED}:' || lead_id AS event_id, lead_id, '{LEAD_CREATED}' AS event_type, "
        f"created AS occurred, created AS known{properties} FROM leads"
    )
    observed_until = project.observed_until
    if observed_until is None:
        latest = first_row(connection, "SELECT max(known) FROM events")
        observed_until = int(latest[0]) if latest and latest[0] is not None else 0
    leads = connection.table("leads").to_pandas().sort_values("lead_id", ignore_index=True)
    return Tables(
        project, connection, leads, connection.table("events"), touches, observed_until, None, ignored
    )


def _snapshot(loaded: ProjectFile, connection: Backend) -> Tables:
    project = loaded.project
    source, conversion = project.sources.snapshot, project.conversion
    if source is None or conversion.column is None:
        raise AssertionError("the settings demand source and column of a snapshot")
    columns = (
        CanonicalColumn("lead_id", "key", optional="'row-' || row_number"),
        CanonicalColumn(conversion.column, "category", "outcome"),
        *_attribute_columns(project),
    )
    ignored = _canonicalise(loaded, connection, "snapshot", source, columns)
    _refuse_duplicates(connection, "snapshot", "lead_id", "sources.snapshot")
    frame = connection.raw_sql("SELECT * FROM snapshot ORDER BY row_number").df()
    outcome = (frame.pop("outcome") == conversion.positive).astype("int64")
    frame = frame.drop(columns="row_number")
    frame.insert(1, "created", project.observed_until)
    properties = {
        "lead_id": "string",
        "event_id": "string",
        "event_type": "string",
        "occurred": "int64",
        "known": "int64",
    }
    import ibis

    connection.create_table("events", schema=ibis.schema(properties))
    touches = pd.DataFrame({name: [] for name in ("touch_id", "lead_id", "action_id", "channel", "occurred")})
    return Tables(
        project,
        connection,
        frame,
        connection.table("events"),
        touches,
        int(project.observed_until or 0),
        outcome,
        {"snapshot": ignored},
    )


def _attribute_columns(project: Project) -> tuple[CanonicalColumn, ...]:
    attributes = [CanonicalColumn(name, setting.type) for name, setting in project.attributes.items()]
    flags = {*project.contact.consent.values(), project.contact.do_not_contact, project.contact.opted_out}
    contact = [
        CanonicalColumn(name, "flag" if name in flags else "category")
        for name in project.contact.columns
        if name not in project.attributes
    ]
    until = project.conversion.until
    ends = [CanonicalColumn(until, "instant")] if until else []
    return (*attributes, *contact, *ends)


def _canonicalise(
    loaded: ProjectFile,
    connection: Backend,
    table: str,
    source: TableSource,
    columns: tuple[CanonicalColumn, ...],
) -> tuple[str, ...]:
    """Create `table` with the canonical columns of `source`; the names of columns left out."""
    where = f"sources.{ {'logged_events': 'events'}.get(table, table) }"
    raw = f"raw_{table}"
    _read(loaded, connection, raw, source, where)
    described = {
        str(name): str(kind) for name, kind, *_ in connection.raw_sql(f"DESCRIBE {quoted(raw)}").fetchall()
    }
    _refuse_unknown_zone(connection, source.time_zone, where)
    for column in columns:
        if column.name not in described and column.optional is None:
            raise MissingColumn(
                what=f"there is no column {column.name!r}",
                where=where,
                remedy=f"Columns found: {', '.join(name for name in described if name != 'row_number')}. "
                "Correct the project file or the table.",
            )
    select = canonical_select(connection, raw, described, columns, where, source.time_zone)
    extra = ", row_number" if table == "snapshot" else ""
    connection.raw_sql(f"CREATE TABLE {quoted(table)} AS SELECT {select}{extra} FROM {quoted(raw)}")
    connection.raw_sql(f"DROP TABLE {quoted(raw)}")
    named = {column.name for column in columns} | set(loaded.project.leaks) | {"row_number"}
    return tuple(name for name in described if name not in named)


def _read(loaded: ProjectFile, connection: Backend, raw: str, source: TableSource, where: str) -> None:
    """Create the table `raw` from the file or query, with a 1-based `row_number` in file order."""
    try:
        for name, path in source.tables.items():
            connection.raw_sql(
                f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS SELECT * FROM {_scan(loaded, source, path)}"
            )
        query = (
            str(source.sql).strip().rstrip(";")
            if source.path is None
            else f"SELECT * FROM {_scan(loaded, source, source.path)}"
        )
        # First, so that a `row_number` of the user's own is the one that DuckDB renames.
        connection.raw_sql(
            f"CREATE TABLE {quoted(raw)} AS SELECT row_number() OVER () AS row_number, * FROM ({query}\n)"
        )
    except duckdb.Error as refused:
        raise UnreadableFile(
            what=f"cannot read the table: {str(refused).splitlines()[0]}",
            where=f"{where}: {source.path or 'sql'}",
            remedy="Check that the file is the CSV or Parquet its name says, and the query's table names.",
        ) from refused
    finally:
        for name in source.tables:
            connection.raw_sql(f"DROP VIEW IF EXISTS temp.{quoted(name)}")


def _scan(loaded: ProjectFile, source: TableSource, path: str) -> str:
    resolved = loaded.data_root / expand_variables(path)
    if not resolved.is_file():
        raise UnreadableFile(
            what="the file does not exist",
            where=str(resolved),
            remedy="Correct `path` or `data_root` in the project file, or make the file "
            "(for the sample project: predictive-scoring simulate).",
        )
    literal = "'" + str(resolved).replace("'", "''") + "'"
    if resolved.suffix == ".parquet":
        return f"read_parquet({literal})"
    if resolved.suffix in (".csv", ".tsv", ".txt"):
        missing = ", ".join("'" + text.replace("'", "''") + "'" for text in ("", *source.missing))
        separator = f", delim='{source.separator}'" if source.separator else ""
        # A plain file is read as text and cast by `canonical`, so that ids keep their zeros and "no" stays
        # "no". A query wants numbers and dates: the whole file decides them, never a sample.
        types = (
            "all_varchar=true"
            if source.path is not None
            else f"sample_size=-1, auto_type_candidates={list(QUERY_TYPES)}"
        )
        return f"read_csv({literal}, header=true, {types}, nullstr=[{missing}]{separator})"
    raise UnreadableFile(
        what=f"files ending in {resolved.suffix!r} are not read",
        where=str(resolved),
        remedy="Export it as .csv or .parquet.",
    )


def _refuse_unknown_zone(connection: Backend, time_zone: str | None, where: str) -> None:
    known = connection.raw_sql("SELECT name FROM pg_timezone_names()").fetchall()
    if time_zone is not None and (time_zone,) not in known:
        raise InvalidSetting(
            what=f"{time_zone!r} is not a time zone",
            where=f"{where}.time_zone",
            remedy="Write the name of an IANA zone, for example Europe/Berlin or UTC.",
        )


def _refuse_duplicates(connection: Backend, table: str, key: str, where: str) -> None:
    found = first_row(
        connection,
        f"SELECT {quoted(key)}, count(*) FROM {quoted(table)} WHERE {quoted(key)} IS NOT NULL "
        "GROUP BY 1 HAVING count(*) > 1 ORDER BY 2 DESC, 1 LIMIT 1",
    )
    if found:
        raise DuplicateKey(
            what=f"{key} {found[0]!r} stands in {found[1]} rows",
            where=f"{where}, column {key}",
            remedy="Keep one row per key.",
        )
    empty = first_row(connection, f"SELECT count(*) FROM {quoted(table)} WHERE {quoted(key)} IS NULL")
    if empty and empty[0]:
        raise InvalidValue(
            what=f"{empty[0]} rows have no {key}",
            where=f"{where}, column {key}",
            remedy="Give every row a key.",
        )
