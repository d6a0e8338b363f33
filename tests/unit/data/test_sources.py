"""Real files in, canonical tables out; or a named refusal that shows the cell and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from predictive_scoring.data.feature_frame import feature_frame
from predictive_scoring.data.sources import Tables, expand_variables, load_project, open_tables
from predictive_scoring.errors import (
    DuplicateKey,
    InputError,
    InvalidDocument,
    InvalidSetting,
    InvalidValue,
    MissingColumn,
    NaiveTimestamp,
    UnknownLead,
    UnreadableFile,
)
from predictive_scoring.features.definitions import EventFeature
from predictive_scoring.features.online import feature_values
from predictive_scoring.schema import AttributeChange

LEADS = """\
lead_id,created_at,title,size,consent,extra
007,2026-01-05T09:00:00Z,CTO,12,true,x
é,2026-01-06T10:00:00+01:00,no,,false,x
L-3,2026-01-07T00:00:00.9Z,,3.5,,x
"""
EVENTS = """\
event_id,lead_id,event_type,occurred_at,known_at,topic,amount
e1,007,page_view,2026-01-10T00:00:00Z,,yes,1.5
e2,007,page_view,2026-01-01T00:00:00Z,2026-02-01T00:00:00Z,,
e3,é,won,2026-01-11T00:00:00Z,2026-01-11T00:00:00Z,001,-2
"""


def epoch(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp())  # type: ignore[misc,arg-type]


class Folder:
    """A project in a folder; every way of reading it checks afterwards that nothing was written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.document: dict[str, Any] = {
            "name": "demo",
            "sources": {"leads": {"path": "leads.csv"}, "events": {"path": "events.csv"}},
            "attributes": {
                "title": {"type": "category", "label": "Title", "immutable": True},
                "size": {"type": "number", "label": "Size", "immutable": True},
            },
            "events": {"page_view": {"label": "P"}, "won": {"label": "W"}},
            "event_properties": {"topic": "category", "amount": "number"},
            "conversion": {"event": "won", "horizon": "30d"},
            "cutoffs": {"first": "2026-01-01T00:00:00Z", "every": "7d"},
            "contact": {"consent": {"email": "consent"}},
            "readiness": {"share": 0.1},
        }
        self.write("leads.csv", LEADS)
        self.write("events.csv", EVENTS)

    def write(self, name: str, text: str | bytes) -> None:
        (self.path / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    def parquet(self, name: str, **columns: Any) -> None:
        pq.write_table(pa.table(columns), self.path / name)

    def source(self, table: str, **source: Any) -> None:
        self.document["sources"][table] = source

    def read(self) -> Tables:
        self.write("scoring.yaml", yaml.safe_dump(self.document))
        before = {path: path.read_bytes() for path in self.path.rglob("*") if path.is_file()}
        try:
            return open_tables(load_project(self.path / "scoring.yaml"))
        finally:
            assert {path: path.read_bytes() for path in self.path.rglob("*") if path.is_file()} == before

    def refused(self, kind: type[InputError]) -> InputError:
        with pytest.raises(kind) as refused:
            self.read()
        assert type(refused.value) is kind
        assert refused.value.exit_code == 2
        assert refused.value.remedy
        return refused.value


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    working = tmp_path / "elsewhere"
    working.mkdir()
    monkeypatch.chdir(working)
    (tmp_path / "project").mkdir()
    yield Folder(tmp_path / "project")
    assert not list(working.iterdir())


def created(tables: Tables) -> dict[str, int]:
    return dict(zip(tables.leads["lead_id"], tables.leads["created"], strict=True))


# ---------------------------------------------------------------------------------------------------------------
# What is read.


def test_ids_stay_text_categories_stay_text_and_times_become_seconds(folder: Folder) -> None:
    tables = folder.read()
    assert created(tables) == {
        "007": epoch(2026, 1, 5, 9),
        "L-3": epoch(2026, 1, 7),
        "é": epoch(2026, 1, 6, 9),
    }
    lead = tables.lead("é")
    assert lead.attributes == {"title": "no", "size": None, "consent": False}
    assert [dict(event.properties) for event in lead.events] == [{"topic": "001", "amount": -2.0}]
    assert tables.lead("007").attributes == {"title": "CTO", "size": 12.0, "consent": True}
    assert tables.lead("L-3").attributes == {"title": None, "size": 3.5, "consent": None}
    assert tables.ignored_columns == {"leads": ("extra",), "events": ()}


def test_an_event_is_known_when_it_occurs_unless_the_table_says_otherwise(folder: Folder) -> None:
    events = {event.event_id: event for event in folder.read().lead("007").events}
    assert (events["e1"].occurred, events["e1"].known) == (epoch(2026, 1, 10), epoch(2026, 1, 10))
    assert (events["e2"].occurred, events["e2"].known) == (epoch(2026, 1, 1), epoch(2026, 2, 1))


def test_without_a_column_known_at_every_event_is_known_when_it_occurs(folder: Folder) -> None:
    folder.write(
        "events.csv",
        "event_id,lead_id,event_type,occurred_at,topic,amount\na,007,won,2026-01-10T00:00:00Z,,\n",
    )
    tables = folder.read()
    assert [(event.occurred, event.known) for event in tables.lead("007").events] == [
        (epoch(2026, 1, 10),) * 2
    ]
    assert tables.observed_until == epoch(2026, 1, 10)


def test_the_log_reaches_to_the_last_thing_known_or_as_far_as_the_project_says(folder: Folder) -> None:
    assert folder.read().observed_until == epoch(2026, 2, 1)
    folder.document["observed_until"] = "2026-01-20T00:00:00Z"
    assert folder.read().observed_until == epoch(2026, 1, 20)


def test_an_event_before_its_leads_creation_is_kept(folder: Folder) -> None:
    lead = folder.read().lead("007")
    assert min(event.occurred for event in lead.events) < lead.created


def test_every_lead_has_the_event_of_its_creation_in_the_table_and_not_in_the_record(folder: Folder) -> None:
    tables = folder.read()
    made = tables.events.filter(tables.events["event_type"] == "lead_created").to_pandas()
    assert dict(zip(made["lead_id"], made["occurred"], strict=True)) == created(tables)
    assert (made["known"] == made["occurred"]).all()
    assert {event.event_type for event in tables.lead("007").events} == {"page_view"}


def test_an_unknown_lead_is_refused_with_an_id_that_exists(folder: Folder) -> None:
    tables = folder.read()
    for name in ("7", "", "L-3 "):
        with pytest.raises(UnknownLead) as refused:
            tables.lead(name)
        assert "'007'" in refused.value.remedy


def test_touches_are_read_oldest_first(folder: Folder) -> None:
    header = "touch_id,lead_id,action_id,channel,occurred_at\n"
    folder.write(
        "touches.csv",
        header + "b,007,call,phone,2026-01-08T00:00:00Z\na,007,mail,email,2026-01-07T00:00:00Z\n",
    )
    folder.source("touches", path="touches.csv")
    touches = folder.read().lead("007").touches
    assert [(touch.touch_id, touch.action_id, touch.occurred) for touch in touches] == [
        ("a", "mail", epoch(2026, 1, 7)),
        ("b", "call", epoch(2026, 1, 8)),
    ]


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ("a,007,mail,email\na,007,call,phone", DuplicateKey),
        (",007,mail,email", InvalidValue),
        ("a,,mail,email", InvalidValue),
        ("a,007,,email", InvalidValue),
        ("a,007,mail,", InvalidValue),
    ],
)
def test_touches_without_a_key_of_their_own_are_refused(
    folder: Folder, rows: str, kind: type[InputError]
) -> None:
    lines = [f"{row},2026-01-08T00:00:00Z\n" for row in rows.split("\n")]
    folder.write("touches.csv", "touch_id,lead_id,action_id,channel,occurred_at\n" + "".join(lines))
    folder.source("touches", path="touches.csv")
    assert folder.refused(kind).where.startswith("sources.touches, column ")


def test_attributes_with_a_history_come_from_their_changes(folder: Folder) -> None:
    folder.document["attributes"] = {
        "title": {"type": "category", "label": "Title", "history": True},
        "role": {"type": "category", "label": "Role", "history": True, "of": "job", "transform": "seniority"},
        "level": {
            "type": "category",
            "label": "L",
            "immutable": True,
            "of": "extra",
            "transform": "seniority",
        },
    }
    folder.write(
        "changes.csv",
        "lead_id,attribute,value,occurred_at,known_at\n"
        "007,title,CTO,2026-01-05T09:00:00.7Z,\n007,title,,2026-01-07T00:00:00Z,2026-01-09T00:00:00Z\n"
        "007,job,Head of IT,2026-01-06T00:00:00Z,\n007,size,12,2026-01-06T00:00:00Z,\n",
    )
    folder.source("attribute_changes", path="changes.csv")
    tables = folder.read()
    lead = tables.lead("007")
    assert sorted(lead.changes, key=lambda change: change.occurred) == [
        AttributeChange("title", "CTO", epoch(2026, 1, 5, 9), epoch(2026, 1, 5, 9)),
        AttributeChange("job", "Head of IT", epoch(2026, 1, 6), epoch(2026, 1, 6)),
        AttributeChange("title", "", epoch(2026, 1, 7), epoch(2026, 1, 9)),
    ]
    # The raw column of a transform is kept; one with a history is neither read from the leads nor missed there.
    assert lead.attributes == {"extra": "x", "consent": True}
    assert tables.ignored_columns["leads"] == ("size",)
    assert tables.lead("é").changes == ()


def test_without_a_table_of_changes_there_is_none(folder: Folder) -> None:
    tables = folder.read()
    assert tables.attribute_changes is None
    assert tables.lead("007").changes == ()


def test_a_column_that_is_read_in_two_ways_is_refused(folder: Folder) -> None:
    folder.document["attributes"]["level"] = {
        "type": "category", "label": "L", "immutable": True, "of": "size", "transform": "seniority"
    }  # fmt: skip
    assert "'size'" in folder.refused(InvalidSetting).what


@pytest.mark.parametrize("path", ["events", "events/*.parquet", "events/part-?.parquet"])
def test_several_files_are_one_table(folder: Folder, path: str) -> None:
    (folder.path / "events").mkdir()
    for number, lead in enumerate(("007", "é")):
        folder.parquet(
            f"events/part-{number}.parquet",
            event_id=[f"e{number}"],
            lead_id=[lead],
            event_type=["won"],
            occurred_at=pa.array([number], type=pa.timestamp("s", tz="UTC")),
            topic=["t"],
            amount=[1.0],
        )
    folder.source("events", path=path)
    tables = folder.read()
    assert [len(tables.lead(lead).events) for lead in ("007", "é", "L-3")] == [1, 1, 0]
    folder.source("events", path="events/*.csv")
    folder.refused(UnreadableFile)
    folder.source("events", path="nothing/*.parquet")
    folder.refused(UnreadableFile)


@pytest.mark.parametrize(
    ("source", "engine"),
    [
        ({"table": "crm.events"}, "postgres"),
        ({"sql": "SELECT 1"}, "postgres"),
        ({"path": "s3a://b/e"}, "spark"),
    ],
)
def test_what_another_engine_reads_in_place_is_refused_with_its_name(
    folder: Folder, source: dict[str, str], engine: str
) -> None:
    folder.document["sources"]["events"] = source
    assert f"--engine {engine}" in folder.refused(InvalidSetting).remedy


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_fractions_of_a_second_are_dropped_downwards_also_before_1970(folder: Folder, unit: str) -> None:
    size = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    at = epoch(2026, 1, 5, 9)
    instants = [-1, -size, (at + 1) * size - 1 if size > 1 else at, at * size]
    times = pa.array(instants, type=pa.timestamp(unit, tz="Europe/Berlin"))
    folder.parquet("leads.parquet", lead_id=list("abcd"), created_at=times, title=list("abcd"), size=[1, 2, 3, 4],
                   consent=[True] * 4)  # fmt: skip
    folder.source("leads", path="leads.parquet")
    assert created(folder.read()) == {"a": -1, "b": -1, "c": at, "d": at}
    # The same as local times of a declared zone: one hour earlier in Berlin's winter.
    folder.parquet("leads.parquet", lead_id=list("abcd"), created_at=times.cast(pa.int64()).cast(pa.timestamp(unit)),
                   title=list("abcd"), size=[1, 2, 3, 4], consent=[True] * 4)  # fmt: skip
    folder.source("leads", path="leads.parquet", time_zone="Europe/Berlin")
    assert created(folder.read()) == {"a": -3601, "b": -3601, "c": at - 3600, "d": at - 3600}
    folder.source("leads", path="leads.parquet")
    assert "row 1" in folder.refused(NaiveTimestamp).where


def test_fractions_in_text_are_dropped_downwards(folder: Folder) -> None:
    folder.write(
        "leads.csv",
        "lead_id,created_at,title,size,consent\n"
        "a,1969-12-31T23:59:59.5Z,,,\nb,2026-01-05T09:00:00.9999999Z,,,\nc,2026-01-05 09:00:00.1-0530,,,\n"
        "d,2026-01-05T09:00Z,,,\ne,2026-01-05T09:00:00+01,,,\n",
    )
    at = epoch(2026, 1, 5, 9)
    assert created(folder.read()) == {"a": -1, "b": at, "c": at + 19_800, "d": at, "e": at - 3600}


NAIVE = ("2026-01-05", "2026-01-05T09:00:00", "2026-01-05 09:00", "2026-01-05 09:00:00.5")


@pytest.mark.parametrize("text", NAIVE)
def test_a_time_without_an_offset_is_refused_with_its_row(folder: Folder, text: str) -> None:
    folder.write("leads.csv", LEADS.replace("2026-01-06T10:00:00+01:00", text))
    refused = folder.refused(NaiveTimestamp)
    assert text in refused.what
    assert refused.where == "sources.leads, column created_at, row 2"


def test_local_times_of_a_declared_zone_are_read_with_its_summer_time(folder: Folder) -> None:
    lines = {
        "winter": ("2026-01-05T09:00:00", epoch(2026, 1, 5, 8)),
        "summer": ("2026-07-05 09:00", epoch(2026, 7, 5, 7)),
        "before the change": ("2026-03-29T01:59:59", epoch(2026, 3, 29, 0, 59, 59)),
        "after the change": ("2026-03-29T03:00:00", epoch(2026, 3, 29, 1)),
        "day": ("2026-07-05", epoch(2026, 7, 4, 22)),
        "own offset": ("2026-07-05T09:00:00-05:00", epoch(2026, 7, 5, 14)),
        "utc": ("2026-07-05T09:00:00Z", epoch(2026, 7, 5, 9)),
        "own zone": ("2026-07-05 09:00:00 America/New_York", epoch(2026, 7, 5, 13)),
    }
    text = "".join(f"{name},{when},,,\n" for name, (when, _) in lines.items())
    folder.write("leads.csv", "lead_id,created_at,title,size,consent\n" + text)
    folder.source("leads", path="leads.csv", time_zone="Europe/Berlin")
    assert created(folder.read()) == {name: seconds for name, (_, seconds) in lines.items()}


def test_the_hour_that_happens_twice_is_one_of_its_two_instants(folder: Folder) -> None:
    folder.write("leads.csv", "lead_id,created_at,title,size,consent\na,2026-10-25T02:30:00,,,\n")
    folder.source("leads", path="leads.csv", time_zone="Europe/Berlin")
    assert created(folder.read())["a"] in (epoch(2026, 10, 25, 0, 30), epoch(2026, 10, 25, 1, 30))


def test_dates_of_a_parquet_file_are_local_midnights_of_the_declared_zone(folder: Folder) -> None:
    day = pa.array([datetime(2026, 7, 5, tzinfo=UTC).date()])
    folder.parquet("leads.parquet", lead_id=["a"], created_at=day, title=["t"], size=[1], consent=[True])
    folder.source("leads", path="leads.parquet")
    assert "2026-07-05" in folder.refused(NaiveTimestamp).what
    folder.source("leads", path="leads.parquet", time_zone="Europe/Berlin")
    assert created(folder.read()) == {"a": epoch(2026, 7, 4, 22)}


def test_a_number_that_is_nan_is_missing_in_both_readings(folder: Folder) -> None:
    folder.write(
        "events.csv", EVENTS.replace(",yes,1.5", ",yes,NaN") + "e4,007,page_view,2026-01-12T00:00:00Z,,,2\n"
    )
    tables = folder.read()
    features = [
        EventFeature(aggregate, ("page_view",), aggregate, "c", column="amount")
        for aggregate in ("sum", "mean", "max", "distinct")
    ]
    cutoff = epoch(2026, 3, 1)
    observed = pd.DataFrame({"observation_id": [0], "lead_id": ["007"], "cutoff": [cutoff]})
    batch = feature_frame(tables, observed, features).iloc[0].to_dict()
    assert batch == feature_values(tables.lead("007"), cutoff, features)
    assert list(batch.values()) == [2.0, 2.0, 2.0, 1.0]


def test_a_snapshot_keeps_the_order_of_its_rows_even_if_they_are_numbered(folder: Folder) -> None:
    folder.document = {
        "name": "rows",
        "sources": {"snapshot": {"path": "rows.csv", "separator": ";", "missing": ["unknown"]}},
        "attributes": {
            "emp.rate": {"type": "number", "label": "Rate"},
            "job": {"type": "category", "label": "Job"},
        },
        "leaks": {"duration": "known only afterwards"},
        "conversion": {"column": "y", "positive": "yes", "horizon": "30d"},
        "observed_until": "2026-01-01T00:00:00Z",
        "readiness": {"share": 0.1},
    }
    folder.write(
        "rows.csv", "row_number;emp.rate;job;duration;y\n9;1.5;unknown;3;no\n8;-2;admin;3;yes\n7;;x;3;no\n"
    )
    tables = folder.read()
    assert list(tables.leads["lead_id"]) == ["row-1", "row-2", "row-3"]
    assert tables.outcome is not None
    assert list(tables.outcome) == [0, 1, 0]
    assert tables.lead("row-1").attributes == {"emp.rate": 1.5, "job": None}
    assert tables.lead("row-2").created == epoch(2026, 1, 1)
    assert not {"duration", "y", "outcome"} & set(tables.leads.columns)


def test_a_query_reads_only_its_named_files(folder: Folder) -> None:
    folder.source("leads", sql="SELECT * FROM people -- all of them\n;", tables={"people": "leads.csv"})
    folder.source("events", sql="SELECT * FROM leads WHERE event_id <> 'e2'", tables={"leads": "events.csv"})
    assert len(folder.read().lead("007").events) == 1
    folder.source("events", sql="SELECT * FROM people", tables={"events": "events.csv"})
    refused = folder.refused(UnreadableFile)
    assert "people" in refused.what
    assert refused.where == "sources.events: sql"


def test_variables_are_taken_from_the_environment(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADS", "leads")
    monkeypatch.delenv("NOWHERE", raising=False)
    folder.document["data_root"] = "${NOWHERE:-.}"
    folder.source("leads", path="${LEADS}.csv")
    assert len(folder.read().leads) == 3
    folder.document["data_root"] = "${NOWHERE}/data"
    refused = folder.refused(UnreadableFile)
    assert "NOWHERE is not set" in refused.what
    monkeypatch.setenv("NOWHERE", "")
    assert expand_variables("a/${NOWHERE:-b}/${LEADS}") == "a/b/leads"
    with pytest.raises(UnreadableFile):
        expand_variables("${NOWHERE}")


# ---------------------------------------------------------------------------------------------------------------
# What is refused.


def test_a_project_file_that_is_missing_or_no_text_is_refused(folder: Folder) -> None:
    for name, content in (("none.yaml", None), ("latin.yaml", "name: é".encode("latin-1")), ("dir.yaml", "")):
        if content:
            folder.write(name, content)
        if content == "":
            (folder.path / name).mkdir()
        with pytest.raises(UnreadableFile) as refused:
            load_project(folder.path / name)
        assert name in refused.value.where


def test_a_project_file_that_breaks_its_schema_is_refused_with_its_line(folder: Folder) -> None:
    folder.write("scoring.yaml", "name: demo\nsuorces: {}\n")
    with pytest.raises(InvalidDocument, match=r"scoring\.yaml, line"):
        load_project(folder.path / "scoring.yaml")


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("gone.csv", None, "the file does not exist"),
        ("table.xlsx", b"PK", "files ending in '.xlsx' are not read"),
        ("bad.parquet", b"lead_id,created_at\n1,2\n", "cannot read the table"),
        ("empty.parquet", b"", "cannot read the table"),
        (
            "latin.csv",
            "lead_id,created_at\né,2026-01-05T09:00:00Z\n".encode("latin-1") * 3,
            "cannot read the table",
        ),
    ],
)
@pytest.mark.parametrize("by_query", [False, True])
def test_a_file_that_cannot_be_read_is_refused(
    folder: Folder, name: str, content: bytes | None, what: str, by_query: bool
) -> None:
    if content is not None:
        folder.write(name, content)
    folder.source(
        "leads", **({"sql": "SELECT * FROM t", "tables": {"t": name}} if by_query else {"path": name})
    )
    refused = folder.refused(UnreadableFile)
    assert what in refused.what
    assert "sources.leads" in refused.where or name in refused.where


def test_a_query_over_a_missing_file_is_refused_by_its_name_whatever_tables_exist(folder: Folder) -> None:
    folder.source("events", sql="SELECT * FROM leads", tables={"leads": "gone.csv"})
    assert folder.refused(UnreadableFile).where.endswith("gone.csv")


@pytest.mark.parametrize("table", ["leads", "events"])
def test_a_missing_column_is_refused_with_the_columns_found(folder: Folder, table: str) -> None:
    text = {"leads": LEADS, "events": EVENTS}[table]
    column = {"leads": "created_at", "events": "topic"}[table]
    folder.write(f"{table}.csv", text.replace(column, "when"))
    refused = folder.refused(MissingColumn)
    assert repr(column) in refused.what
    assert refused.where == f"sources.{table}"
    assert text.splitlines()[0].replace(column, "when").replace(",", ", ") in refused.remedy
    assert "row_number" not in refused.remedy


WHEN, LEARNED = "2026-01-06T10:00:00+01:00", "2026-02-01T00:00:00Z"
CELLS = {
    "a lead twice": ("leads", "é,", "007,", DuplicateKey, "lead_id '007' stands in 2 rows", "column lead_id"),
    "an event twice": ("events", "e2,", "e1,", DuplicateKey, "event_id 'e1' stands in 2 rows", "column event_id"),
    "a lead without id": ("leads", "é,", ",", InvalidValue, "1 rows have no lead_id", "column lead_id"),
    "an event without lead": ("events", "e3,é", "e3,", InvalidValue, "1 rows have no lead_id", "lead_id, row 3"),
    "an event without type": ("events", "won", "", InvalidValue, "1 rows have no event_type", "event_type, row 3"),
    "an event without id": ("events", "e2,", ",", InvalidValue, "1 rows have no event_id", "column event_id"),
    "no time at all": ("leads", WHEN, "", InvalidValue, "the time is missing", "row 2"),
    "a word for a time": ("leads", WHEN, "soon", InvalidValue, "'soon' is not a time", "row 2"),
    "a number for a time": ("leads", WHEN, "1767", InvalidValue, "'1767' is not a time", "row 2"),
    "a time without end": ("leads", WHEN, "infinity", InvalidValue, "is not a time", "row 2"),
    "a day that is none": (
        "events", "2026-01-11T00:00:00Z,2", "2026-02-30T00:00:00Z,2", InvalidValue, "is not a time", "row 3"
    ),
    "a word for known_at": ("events", LEARNED, "x", InvalidValue, "'x' is not a time", "known_at, row 2"),
    "naive known_at": ("events", LEARNED, "2026-02-01", NaiveTimestamp, "'2026-02-01'", "known_at, row 2"),
    "a word for a number": ("leads", ",3.5,", ",many,", InvalidValue, "'many' is not a number", "column size, row 3"),
    "a comma for a point": ("leads", ",3.5,", ',"3,5",', InvalidValue, "'3,5' is not a number", "column size, row 3"),
    "infinitely many": ("leads", ",3.5,", ",inf,", InvalidValue, "'inf' is not a number", "column size, row 3"),
    "a word for a property": ("events", ",-2", ",two", InvalidValue, "'two' is not a number", "column amount, row 3"),
    "a word for a flag": ("leads", ",false,", ",maybe,", InvalidValue, "is not true or false", "column consent, row 2"),
}  # fmt: skip


@pytest.mark.parametrize(("table", "old", "new", "kind", "what", "where"), CELLS.values(), ids=list(CELLS))
def test_a_bad_cell_is_refused_with_its_column_and_row(
    folder: Folder, table: str, old: str, new: str, kind: type[InputError], what: str, where: str
) -> None:
    text = {"leads": LEADS, "events": EVENTS}[table]
    assert text.count(old) == 1
    folder.write(f"{table}.csv", text.replace(old, new))
    refused = folder.refused(kind)
    assert what in refused.what
    assert refused.where.startswith(f"sources.{table}")
    assert where in refused.where


def test_several_rows_without_a_key_are_not_called_duplicates(folder: Folder) -> None:
    folder.write("leads.csv", LEADS.replace("é,", ",").replace("L-3,", ","))
    assert "2 rows have no lead_id" in folder.refused(InvalidValue).what


def test_a_zone_that_does_not_exist_is_refused(folder: Folder) -> None:
    folder.source("events", path="events.csv", time_zone="Mars/Base")
    refused = folder.refused(InvalidSetting)
    assert "'Mars/Base'" in refused.what
    assert refused.where == "sources.events.time_zone"


def test_seconds_since_1970_are_refused_with_the_way_to_write_them(folder: Folder) -> None:
    folder.parquet(
        "leads.parquet", lead_id=["a"], created_at=[1_767_225_600], title=["t"], size=[1], consent=[True]
    )
    folder.source("leads", path="leads.parquet")
    assert "to_timestamp" in folder.refused(InvalidValue).remedy
    query = "SELECT * REPLACE (to_timestamp(created_at) AS created_at) FROM t"
    folder.source("leads", sql=query, tables={"t": "leads.parquet"})
    assert created(folder.read()) == {"a": 1_767_225_600}
