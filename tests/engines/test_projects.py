"""The same project on every engine: from files, from a database, from folders of Parquet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import psycopg
import pytest
import yaml

from predictive_scoring.data.dataset import Dataset, build_dataset
from predictive_scoring.data.engines import Engine, open_engine
from predictive_scoring.data.feature_frame import ReadingPlan, feature_frame
from predictive_scoring.data.sources import ProjectFile, Tables, load_project, open_tables
from predictive_scoring.errors import (
    DuplicateKey,
    EnvironmentMissing,
    InvalidSetting,
    InvalidValue,
    MissingColumn,
    NaiveTimestamp,
    PredictiveScoringError,
    UnreadableFile,
)
from predictive_scoring.features.catalog import views_of

START = datetime(2026, 1, 1, tzinfo=UTC)
DOCUMENT: dict[str, Any] = {
    "name": "shared",
    "sources": {
        "leads": {"path": "leads.csv"},
        "events": {"path": "events.csv"},
        "touches": {"path": "touches.csv"},
        "attribute_changes": {"path": "attribute_changes.csv"},
    },
    "attributes": {
        "industry": {"type": "category", "label": "Industry", "immutable": True},
        "size": {"type": "number", "label": "Size", "immutable": True},
        "title": {"type": "category", "label": "Title", "history": True},
    },
    "events": {"page_view": {"label": "Page"}, "call": {"label": "Call"}, "won": {"label": "Won"}},
    "event_properties": {"topic": "category", "amount": "number"},
    "conversion": {"event": "won", "horizon": "14d"},
    "observed_until": "2026-11-15T00:00:00Z",
    "cutoffs": {"first": "2026-01-15T00:00:00Z", "every": "7d"},
    "contact": {"consent": {"email": "consent"}},
    "readiness": {"share": 0.1},
    "feature_views": [{"name": "own", "features": [
        {"aggregate": "count", "events": ["page_view"], "windows": ["7d", "30d"]},
        {"aggregate": "latest", "events": ["page_view", "call"], "column": "topic"},
        {"aggregate": "sum", "events": ["call"], "column": "amount", "window": "90d"},
        {"aggregate": "days_since", "events": ["call"]},
        {"aggregate": "distinct", "events": ["page_view"], "column": "topic"},
    ]}],
}  # fmt: skip
for feature in DOCUMENT["feature_views"][0]["features"]:
    feature |= {"label": feature["aggregate"], "concept": "Behaviour"}
TYPES = {
    "leads": "lead_id text, created_at timestamptz, industry text, size numeric, consent boolean, title text",
    "events": "event_id text, lead_id text, event_type varchar(20), occurred_at timestamptz, known_at timestamptz, "
    "topic text, amount double precision",
    "touches": "touch_id text, lead_id text, action_id text, channel text, occurred_at timestamptz",
    "attribute_changes": "lead_id text, attribute text, value text, occurred_at timestamptz, known_at timestamptz",
}


def at(day: float) -> str:
    return (START + timedelta(days=day)).isoformat()


def write_project(folder: Path) -> None:
    """Files of 60 leads, half of whom win a while after their calls."""
    leads, events, touches, changes = [], [], [], []
    for n in range(60):
        lead = ("é", "B", "a", "00", "🦊")[n % 5] + str(n)
        born = n * 5
        size = ("", "12", "250.5")[n % 3]
        leads.append(
            [lead, at(born), ("IT", "", "Retail & Co")[n % 3], size, ("true", "false", "")[n % 3], "CEO"]
        )
        for k in range(n % 7):
            kind = "call" if (n + k) % 3 == 0 else "page_view"
            # Every second pair shares its instant, so that ids decide which is the latest.
            moment = born + 3 * (k // 2) + 0.5
            known = at(moment + 5) if k % 4 == 3 else ""
            topic = ("a", "", "Ω", "no")[(n + k) % 4]
            identity = "aBéz"[k % 4] + f"{n}-{k}"
            events.append([identity, lead, kind, at(moment), known, topic, ("", "1.5", "-2", "NaN")[k % 4]])
        if n % 2:
            events.append([f"w{n}", lead, "won", at(born + 8 + n % 40), "", "", ""])
        touches.append([f"t{n}", lead, "mail", "email", at(born + 1)])
        changes.append([lead, "title", ("CTO", "Clerk")[n % 2], at(born), ""])
        if n % 3 == 0:
            changes.append([lead, "title", ("", "CFO")[n % 2], at(born + 10), at(born + 25)])
        changes.append([lead, "phone", "123", at(born), ""])
    columns = {name: [part.split()[0] for part in types.split(", ")] for name, types in TYPES.items()}
    rows = {"leads": leads, "events": events, "touches": touches, "attribute_changes": changes}
    for name, values in rows.items():
        pd.DataFrame(values, columns=columns[name]).to_csv(folder / f"{name}.csv", index=False)


def project(folder: Path, **sources: dict[str, Any]) -> ProjectFile:
    document = {**DOCUMENT, "sources": {**DOCUMENT["sources"], **sources}}
    name = folder / f"{'-'.join(sources) or 'files'}.yaml"
    name.write_text(yaml.safe_dump(document), "utf-8")
    return load_project(name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    write_project(folder)
    return folder


@dataclass(frozen=True)
class Told:
    """What a project says: its examples with their features, and leads with their histories."""

    dataset: Dataset
    histories: list[Any]


def told(tables: Tables) -> Told:
    dataset = build_dataset(tables, views_of(tables.project))
    leads = tables.stored_leads(tables.leads["lead_id"].iloc[::7])
    histories = [
        (
            lead.lead_id,
            lead.created,
            dict(lead.attributes),
            sorted((e.event_id, e.event_type, e.occurred, e.known, tuple(e.properties.items())) for e in lead.events),
            lead.touches,
            sorted((c.attribute, c.value, c.occurred, c.known) for c in lead.changes),
        )
        for lead in leads.values()
    ]  # fmt: skip
    return Told(dataset, histories)


@pytest.fixture(scope="module")
def truth(folder: Path) -> Told:
    """The project's files read by DuckDB; `tests/unit/data` holds that reading to the text of the files."""
    with open_engine() as duck:
        return told(open_tables(project(folder), duck))


def assert_same(tables: Tables, truth: Told) -> None:
    found = told(tables)
    pd.testing.assert_frame_equal(found.dataset.observations, truth.dataset.observations)
    pd.testing.assert_frame_equal(found.dataset.frame, truth.dataset.frame, rtol=1e-12)
    assert found.histories == truth.histories


def test_the_truth_has_something_to_tell(truth: Told) -> None:
    frame = truth.dataset.frame
    assert len(frame) > 200
    assert frame["title"].nunique() == 3
    assert (frame.notna().sum() > 0).all()


def test_files_give_the_same_on_every_engine(engine: Engine, folder: Path, truth: Told) -> None:
    assert_same(open_tables(project(folder), engine), truth)


def test_reading_in_pieces_gives_the_same_on_every_engine(engine: Engine, folder: Path, truth: Told) -> None:
    cutoffs = sorted(truth.dataset.observations["cutoff"].unique())[::9]
    chosen = truth.dataset.observations["cutoff"].isin(cutoffs)
    observations = truth.dataset.observations[chosen].reset_index(drop=True)
    plan = ReadingPlan(block=60, in_streams=1, carried=1)
    found = feature_frame(open_tables(project(folder), engine), observations, truth.dataset.features, plan)
    wanted = truth.dataset.frame[chosen].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, wanted, rtol=1e-9)


# ---------------------------------------------------------------------------------------------------------------
# Tables of a database.


class Warehouse:
    """A schema of the database with the tables of the project, loaded by hand."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.connection = psycopg.connect(dsn, autocommit=True)

    def load(self, folder: Path) -> None:
        # Tables called like ours stand in the way on purpose: they must neither be read nor changed.
        self.run("CREATE TABLE IF NOT EXISTS events (lead_id int, trap text)")
        self.run("DROP SCHEMA IF EXISTS crm CASCADE; CREATE SCHEMA crm")
        for name, types in TYPES.items():
            self.run(f"CREATE TABLE crm.{name} ({types})")
            into = f"COPY crm.{name} FROM STDIN (FORMAT csv, HEADER)"
            with self.connection.cursor() as cursor, cursor.copy(into) as copy:
                copy.write((folder / f"{name}.csv").read_bytes())

    def run(self, text: str) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(text)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def relations(self) -> set[tuple[str, str]]:
        """Everything that is stored, temporary things of any session included."""
        return set(
            self.run(
                "SELECT nspname, relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
                "WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND nspname !~ '^pg_toast_temp'"
            )
        )

    def settle(self, before: set[tuple[str, str]]) -> None:
        """Fails unless the database is as before; a session that was just left takes a moment to end."""
        for _ in range(100):
            if self.relations() == before:
                return
            time.sleep(0.1)
        assert self.relations() == before


@pytest.fixture
def warehouse(dsn: str, folder: Path) -> Iterator[Warehouse]:
    made = Warehouse(dsn)
    made.load(folder)
    yield made
    made.connection.close()


WAREHOUSE: dict[str, dict[str, Any]] = {
    "leads": {"table": "crm.leads"},
    "events": {"table": "crm.events"},
    "touches": {"table": "crm.touches"},
    "attribute_changes": {"sql": "SELECT * FROM crm.attribute_changes;"},
}


def test_tables_of_the_database_give_the_same_and_nothing_is_left_behind(
    warehouse: Warehouse, dsn: str, folder: Path, truth: Told
) -> None:
    before = warehouse.relations()
    with open_engine("postgres", dsn=dsn) as engine:
        tables = open_tables(project(folder, **WAREHOUSE), engine)
        assert_same(tables, truth)
        # The database's own collation may be any; ours is that of code points.
        texts = warehouse.run(
            "SELECT relname, attname, collname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid "
            "JOIN pg_collation c ON c.oid = attcollation JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE nspname LIKE 'pg_temp%' AND relname !~ '^raw_' AND attnum > 0"
        )
        assert {name for _, name, _ in texts} >= {"lead_id", "event_id", "event_type", "topic", "value"}
        assert {collation for *_, collation in texts} == {"C"}
    warehouse.settle(before)


def test_events_of_the_database_and_leads_of_a_file_go_together(
    warehouse: Warehouse, dsn: str, folder: Path, truth: Told
) -> None:
    assert warehouse.run("SELECT count(*) FROM crm.events") != [(0,)]
    with open_engine("postgres", dsn=dsn) as engine:
        assert_same(open_tables(project(folder, events=WAREHOUSE["events"]), engine), truth)


SPOILT: dict[str, tuple[str, type[PredictiveScoringError], str]] = {
    "naive": ("ALTER TABLE crm.events ALTER occurred_at TYPE timestamp", NaiveTimestamp, "occurred_at"),
    "naive lead": ("ALTER TABLE crm.leads ALTER created_at TYPE date", NaiveTimestamp, "created_at"),
    "text": ("ALTER TABLE crm.events ALTER occurred_at TYPE text", InvalidValue, "occurred_at"),
    "text of a lead": ("ALTER TABLE crm.leads ALTER created_at TYPE text", InvalidValue, "created_at"),
    "seconds": ("ALTER TABLE crm.events ALTER known_at TYPE int USING 1", InvalidValue, "known_at"),
    "no number": ("ALTER TABLE crm.events ALTER amount TYPE text", InvalidValue, "amount"),
    "endless": ("UPDATE crm.events SET amount = 'Infinity' WHERE event_id = 'w1'", InvalidValue, "w1"),
    "no time": ("UPDATE crm.events SET occurred_at = NULL WHERE event_id = 'w1'", InvalidValue, "w1"),
    "infinite time": ("UPDATE crm.events SET occurred_at = 'infinity' WHERE event_id = 'w1'", InvalidValue, "w1"),
    "no id": ("UPDATE crm.events SET event_id = NULL WHERE event_id = 'w1'", InvalidValue, "event_id"),
    "no lead": ("UPDATE crm.events SET lead_id = NULL WHERE event_id = 'w1'", InvalidValue, "w1"),
    "no type": ("UPDATE crm.events SET event_type = NULL WHERE event_id = 'w1'", InvalidValue, "w1"),
    "twice": ("UPDATE crm.events SET event_id = 'w1' WHERE event_id = 'w3'", DuplicateKey, "event_id"),
    "lead twice": ("INSERT INTO crm.leads SELECT * FROM crm.leads LIMIT 1", DuplicateKey, "lead_id"),
    "touch twice": ("INSERT INTO crm.touches SELECT * FROM crm.touches LIMIT 1", DuplicateKey, "touch_id"),
    "no column": ("ALTER TABLE crm.events DROP topic", MissingColumn, "sources.events"),
    "no table": ("DROP TABLE crm.touches", UnreadableFile, "crm.touches"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_table_of_the_database_is_refused(
    warehouse: Warehouse, dsn: str, folder: Path, case: str
) -> None:
    change, kind, shown = SPOILT[case]
    warehouse.run(change)
    before = warehouse.relations()
    with open_engine("postgres", dsn=dsn) as engine, pytest.raises(kind) as refused:
        open_tables(project(folder, **WAREHOUSE), engine)
    assert shown in refused.value.where
    assert refused.value.remedy
    warehouse.settle(before)


def test_local_times_of_the_database_are_read_in_the_declared_zone(
    warehouse: Warehouse, dsn: str, folder: Path, truth: Told
) -> None:
    for table, columns in {"leads": ["created_at"], "events": ["occurred_at", "known_at"]}.items():
        for column in columns:
            warehouse.run(
                f"ALTER TABLE crm.{table} ALTER {column} TYPE timestamp USING {column} AT TIME ZONE 'Europe/Berlin'"
            )
    local = {name: {**WAREHOUSE[name], "time_zone": "Europe/Berlin"} for name in ("leads", "events")}
    with open_engine("postgres", dsn=dsn) as engine:
        assert_same(open_tables(project(folder, **{**WAREHOUSE, **local}), engine), truth)
        unknown = {**WAREHOUSE, "leads": {"table": "crm.leads", "time_zone": "Berlin"}}
        with pytest.raises(InvalidSetting, match="Berlin"):
            open_tables(project(folder, **unknown), engine)


def test_a_snapshot_of_the_database_is_a_query_with_an_order(
    warehouse: Warehouse, dsn: str, folder: Path
) -> None:
    warehouse.run("CREATE TABLE crm.snap AS SELECT n AS lead_id, n % 3 AS x, CASE n % 2 WHEN 1 THEN 'yes' END AS y "
                  "FROM generate_series(1, 9) n")  # fmt: skip
    document = {
        "name": "rows",
        "sources": {"snapshot": {"sql": "SELECT * FROM crm.snap ORDER BY lead_id DESC"}},
        "attributes": {"x": {"type": "number", "label": "X"}},
        "conversion": {"column": "y", "positive": "yes", "horizon": "30d"},
        "observed_until": "2026-01-01T00:00:00Z",
        "readiness": {"share": 0.1},
    }
    (folder / "rows.yaml").write_text(yaml.safe_dump(document), "utf-8")
    with open_engine("postgres", dsn=dsn) as engine:
        tables = open_tables(load_project(folder / "rows.yaml"), engine)
        assert list(tables.leads["lead_id"]) == list("987654321")
        assert tables.outcome is not None
        assert list(tables.outcome) == [1, 0] * 4 + [1]
        document["sources"] = {"snapshot": {"table": "crm.snap"}}
        (folder / "rows.yaml").write_text(yaml.safe_dump(document), "utf-8")
        with pytest.raises(InvalidSetting, match="order"):
            open_tables(load_project(folder / "rows.yaml"), engine)


def test_a_database_is_not_read_by_another_engine(engine: Engine, folder: Path) -> None:
    if engine.name == "postgres":
        return
    with pytest.raises(InvalidSetting) as refused:
        open_tables(project(folder, events={"table": "crm.events"}), engine)
    assert "--engine postgres" in refused.value.remedy


# ---------------------------------------------------------------------------------------------------------------
# Folders of Parquet.


@pytest.fixture(scope="module")
def parts(folder: Path) -> Path:
    """Every table as a folder of two typed Parquet files."""
    reader = duckdb.connect()
    reader.execute("SET TimeZone = 'UTC'")
    for name, columns in TYPES.items():
        path = folder / "parts" / name
        path.mkdir(parents=True)
        types = ", ".join(
            f"CAST({column} AS {'VARCHAR' if kind.startswith(('text', 'varchar')) else kind.upper()}) AS {column}"
            for column, kind in (part.split(" ", 1) for part in columns.split(", "))
        )
        for half in (0, 1):
            reader.execute(
                f"COPY (SELECT {types} FROM (SELECT *, row_number() OVER () AS n FROM "
                f"read_csv('{folder / name}.csv', all_varchar = true)) WHERE n % 2 = {half}) "
                f"TO '{path}/{half}.parquet' (FORMAT parquet)"
            )
    return folder


def test_folders_of_parquet_give_the_same_on_every_engine(engine: Engine, parts: Path, truth: Told) -> None:
    # Spark reads addresses too, which the others refuse (`tests/unit/data/test_sources.py`).
    place = f"file://{parts}/parts" if engine.name == "spark" else "parts"
    folders = {name: {"path": f"{place if name == 'events' else 'parts'}/{name}"} for name in TYPES}
    assert_same(open_tables(project(parts, **folders), engine), truth)


SPOILT_PARTS: dict[str, tuple[str, type[PredictiveScoringError], str]] = {
    "naive": ("* REPLACE (CAST(occurred_at AS TIMESTAMP) AS occurred_at)", NaiveTimestamp, "occurred_at"),
    "text": ("* REPLACE (CAST(occurred_at AS VARCHAR) AS occurred_at)", InvalidValue, "occurred_at"),
    "endless": ("* REPLACE (CAST('inf' AS DOUBLE) AS amount)", InvalidValue, "amount"),
    "no type": ("* REPLACE (CAST(NULL AS VARCHAR) AS event_type)", InvalidValue, "event_type"),
    "twice": ("* REPLACE ('same' AS event_id)", DuplicateKey, "event_id"),
    "no column": ("* EXCLUDE (topic)", MissingColumn, "sources.events"),
}


@pytest.mark.parametrize("case", SPOILT_PARTS)
def test_a_spoilt_folder_is_refused_by_spark(spark: Engine, parts: Path, tmp_path: Path, case: str) -> None:
    columns, kind, shown = SPOILT_PARTS[case]
    duckdb.connect().execute(
        f"COPY (SELECT {columns} FROM '{parts}/parts/events/*.parquet') TO '{tmp_path}/spoilt.parquet' (FORMAT parquet)"
    )
    with pytest.raises(kind) as refused:
        open_tables(project(parts, events={"path": str(tmp_path)}), spark)
    assert shown in refused.value.where


def test_local_times_of_a_folder_are_read_in_the_declared_zone(
    spark: Engine, parts: Path, tmp_path: Path
) -> None:
    moments = {
        "winter": ("2026-01-05 09:00:00.9", datetime(2026, 1, 5, 8, tzinfo=UTC)),
        "summer": ("2026-07-05 09:00:00", datetime(2026, 7, 5, 7, tzinfo=UTC)),
        "long ago": ("1969-12-31 23:59:59.5", datetime(1969, 12, 31, 22, 59, 59, tzinfo=UTC)),
    }
    rows = ", ".join(f"('{name}', TIMESTAMP '{local}')" for name, (local, _) in moments.items())
    duckdb.connect().execute(
        "COPY (SELECT name AS event_id, 'a' AS lead_id, 'call' AS event_type, moment AS occurred_at, "
        f"moment AS known_at, 't' AS topic, 1.5 AS amount FROM (VALUES {rows}) AS local_times(name, moment)) "
        f"TO '{tmp_path}/local.parquet' (FORMAT parquet)"
    )
    tables = open_tables(project(parts, events={"path": str(tmp_path), "time_zone": "Europe/Berlin"}), spark)
    frame = tables.events.filter(tables.events["lead_id"] == "a").to_pandas().set_index("event_id")
    for name, (_, moment) in moments.items():
        assert frame.loc[name, "occurred"] == int(moment.timestamp())


# ---------------------------------------------------------------------------------------------------------------
# Engines that cannot be opened.


@pytest.mark.parametrize(
    ("name", "more", "kind"),
    [
        ("postgres", {"dsn": "postgresql://nobody:secret@127.0.0.1:1/none"}, EnvironmentMissing),
        ("postgres", {"dsn": "no dsn at all: secret"}, EnvironmentMissing),
        ("postgres", {}, InvalidSetting),
        ("mysql", {}, InvalidSetting),
    ],
)
def test_an_engine_that_cannot_be_opened_says_what_to_do_and_no_password(
    name: str, more: dict[str, str], kind: type[PredictiveScoringError]
) -> None:
    with pytest.raises(kind) as refused:
        open_engine(name, **more)
    assert refused.value.remedy
    assert "secret" not in str(refused.value)


def test_without_java_spark_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pyspark.sql import SparkSession

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(SparkSession, "getActiveSession", classmethod(lambda _: None))
    with pytest.raises(EnvironmentMissing) as refused:
        open_engine("spark")
    assert "Java" in refused.value.what
    assert "JAVA_HOME" in refused.value.remedy


def test_nothing_of_a_closed_spark_engine_stays_on_disk(
    spark: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import tempfile

    assert spark.name == "spark"  # It runs, so the second engine below shares its Java process.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with open_engine("spark") as second:
        tables = open_tables(project(folder), second)
        assert any(tmp_path.rglob("*.parquet"))
        assert len(tables.leads) == 60
    assert not list(tmp_path.iterdir())
    assert spark.backend.sql("SELECT 1 AS one").to_pandas()["one"].tolist() == [1]
