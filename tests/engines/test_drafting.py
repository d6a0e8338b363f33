"""A draft from tables of a real PostgreSQL database opens there, and holds nothing of how to get in."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from predictive_scoring.data import warehouse_profile
from predictive_scoring.data.drafting import draft_warehouse
from predictive_scoring.data.engines import open_engine
from predictive_scoring.data.simulator import SimulationConfig, World, simulate
from predictive_scoring.data.sources import ProjectFile, open_tables
from predictive_scoring.errors import EnvironmentMissing, InvalidSetting, UnreadableFile
from predictive_scoring.settings import parse_project
from predictive_scoring.timeline import parse_instant

TODAY = parse_instant("2026-11-21T00:00:00Z")

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def world() -> World:
    return simulate(SimulationConfig(seed=3, leads=300, days=300))


@pytest.fixture(scope="module")
def crm(dsn: str, world: World) -> Iterator[str]:
    """The simulated leads and events in a schema, under a CRM's own column names."""
    leads = world.leads[["lead_id", "created_at", "title", "industry", "company_size"]]
    events = world.events[["lead_id", "event_type", "occurred_at"]].replace(
        {"event_type": {"email_open": "Email Opened"}}
    )
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA draft_crm")
        connection.execute(
            "CREATE TABLE draft_crm.contacts (contact_id text, created timestamptz, job_title text, industry text, "
            "company_size double precision)"
        )
        connection.execute(
            "CREATE TABLE draft_crm.activity (contact_id text, type text, happened_at timestamptz)"
        )
        for name, frame in (("contacts", leads), ("activity", events)):
            with connection.cursor().copy(f"COPY draft_crm.{name} FROM STDIN") as copy:
                for row in frame.astype(object).where(frame.notna(), None).itertuples(index=False):
                    copy.write_row([str(cell) if hasattr(cell, "tzinfo") else cell for cell in row])
        yield dsn
        connection.execute("DROP SCHEMA draft_crm CASCADE")


NAMES = ("draft_crm.activity", "draft_crm.contacts")


def test_tables_of_a_database_are_drafted_and_open_where_they_lie(crm: str, world: World) -> None:
    draft = draft_warehouse(NAMES, dsn=crm, today=TODAY)
    assert crm not in draft.text
    project = parse_project(draft.text, "scoring.yaml")
    for source in (project.sources.leads, project.sources.events):
        assert source is not None
        assert source.in_warehouse
    assert project.conversion.event == "opportunity_created"
    assert project.attributes["seniority"].of == "job_title"
    assert project.observed_until == int(world.events["occurred_at"].max().timestamp())
    with open_engine("postgres", dsn=crm) as engine:
        tables = open_tables(ProjectFile(project, Path("scoring.yaml").resolve()), engine)
        assert len(tables.leads) == len(world.leads)
        opened = tables.events.filter(tables.events["event_type"] == "email_open").count().to_pandas()
    assert int(opened) == int((world.events["event_type"] == "email_open").sum())
    assert draft == draft_warehouse(NAMES, dsn=crm, today=TODAY)


def test_a_large_table_is_read_in_part_but_counted_as_a_whole(
    crm: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = parse_project(draft_warehouse(NAMES, dsn=crm, today=TODAY).text, "scoring.yaml")
    monkeypatch.setattr(warehouse_profile, "MOST_ROWS", 100)
    draft = draft_warehouse(NAMES, dsn=crm, today=TODAY)
    part = parse_project(draft.text, "scoring.yaml")
    assert (part.events, part.conversion, part.observed_until) == (
        whole.events,
        whole.conversion,
        whole.observed_until,
    )
    number = int((world.events["event_type"] == "email_open").sum())
    assert f"# {number} events" in draft.text
    assert draft == draft_warehouse(NAMES, dsn=crm, today=TODAY)


def test_what_is_not_there_is_named_and_no_password_is_shown(crm: str) -> None:
    with pytest.raises(UnreadableFile, match=r"draft_crm\.contacts") as refused:
        draft_warehouse(("draft_crm.people", "draft_crm.activity"), dsn=crm, today=TODAY)
    assert "draft_crm.people" in refused.value.where
    with pytest.raises(InvalidSetting, match="not enough"):
        draft_warehouse(("draft_crm.contacts",), dsn=crm, today=TODAY)
    with pytest.raises(EnvironmentMissing) as unreachable:
        draft_warehouse(NAMES, dsn="postgresql://me:secret@127.0.0.1:1/none", today=TODAY)
    assert "secret" not in str(unreachable.value)
