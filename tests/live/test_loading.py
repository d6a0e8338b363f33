"""The project's tables in the store: the same leads, once, and only what is new the next time."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest

from conftest import SmallProject
from predictive_scoring.data.sources import open_tables
from predictive_scoring.errors import UnknownLead
from predictive_scoring.keeping.store.erasure import erase_lead
from predictive_scoring.keeping.store.histories import count_leads, lead_ids, read_leads
from predictive_scoring.keeping.store.ingestion import ingest
from predictive_scoring.keeping.store.messages import Message
from predictive_scoring.keeping.store.observed import observed_until
from predictive_scoring.keeping.store.opening import open_store
from predictive_scoring.keeping.store.rescoring import backlog, done, take
from predictive_scoring.keeping.store.subject import subject_report
from predictive_scoring.live.loading import load_tables
from predictive_scoring.live.store_tables import store_tables
from stored_project import sqlite_url

NOW = 1_790_000_000


@pytest.fixture
def project(small_champion, tmp_path) -> SmallProject:
    """Sixty leads of the small project, in a folder of this test's own."""
    shutil.copytree(
        small_champion.folder, tmp_path / "project", ignore=shutil.ignore_patterns("models", "mlflow*")
    )
    copy = SmallProject(tmp_path / "project")
    for file in (copy.folder / "tables").glob("*.parquet"):
        frame = pd.read_parquet(file)
        frame[frame["lead_id"].isin(sorted(small_champion.tables.leads["lead_id"])[:60])].to_parquet(
            file, index=False
        )
    return copy


@pytest.fixture
def store(tmp_path):
    opened = open_store(sqlite_url(tmp_path))
    yield opened
    opened.close()


def everything(store, project):
    ids = store.read(lead_ids)
    return store.read(lambda tx: read_leads(tx, ids, project.loaded.project))


def test_the_store_gives_back_what_the_tables_hold(project, store):
    seen = []
    load = load_tables(
        store, project.loaded, now=NOW, progress=lambda done, total: seen.append((done, total))
    )
    tables = project.tables
    assert (load.read, load.loaded.leads, load.loaded.erased) == (True, 60, 0)
    assert seen[-1] == (60, 60)
    assert store.read(observed_until) == tables.observed_until
    assert store.read(lambda tx: backlog(tx, NOW)).waiting == 60
    expected = tables.stored_leads(tables.leads["lead_id"])
    found = everything(store, project)
    assert found.keys() == expected.keys()
    for lead_id, lead in expected.items():
        assert found[lead_id].created == lead.created
        assert found[lead_id].attributes == lead.attributes
        for part in ("events", "touches", "changes"):
            assert sorted(getattr(found[lead_id], part), key=str) == sorted(getattr(lead, part), key=str)


def test_tables_that_did_not_change_are_not_read_again(project, store):
    load_tables(store, project.loaded, now=NOW)
    before = everything(store, project)
    assert not load_tables(store, project.loaded, now=NOW + 1).read
    everybody = store.write(lambda tx: take(tx, NOW, 100, 10))
    store.write(lambda tx: done(tx, everybody))
    again = load_tables(store, project.loaded, now=NOW + 1, again=True)
    assert (again.read, again.loaded.events) == (True, 0)
    assert store.read(lambda tx: backlog(tx, NOW)).waiting == 0
    assert everything(store, project) == before


def test_changed_files_add_what_is_new_and_keep_what_was_told_meanwhile(project, store):
    load_tables(store, project.loaded, now=NOW)
    lead_id = str(project.tables.leads["lead_id"].iloc[0])
    until = project.as_of
    told = Message("m-1", until + 5, until + 5, lead_id=lead_id, event_type="pricing_view")
    store.write(lambda tx: ingest(tx, [told]))
    file = project.folder / "tables" / "events.parquet"
    events = pd.read_parquet(file)
    late = events.iloc[[0]].assign(event_id="late", lead_id=lead_id)
    pd.concat([events, late]).to_parquet(file, index=False)
    load = load_tables(store, project.loaded, now=NOW + 1)
    assert (load.read, load.loaded.events) == (True, 1)
    ids = {event.event_id for event in everything(store, project)[lead_id].events}
    assert {"m-1", "late"} <= ids
    assert store.read(observed_until) == until + 6


def test_an_erased_lead_stays_out(project, store):
    load_tables(store, project.loaded, now=NOW)
    lead_id = str(project.tables.leads["lead_id"].iloc[0])
    erase_lead(store, lead_id, now=NOW, actor="test")
    assert load_tables(store, project.loaded, now=NOW + 1, again=True).loaded.erased == 1
    assert store.read(count_leads) == 59
    with pytest.raises(UnknownLead):
        store.read(lambda tx: subject_report(tx, lead_id))


def test_an_interrupted_load_is_taken_up(project, store):
    class Stopped(Exception):
        pass

    def stop(done, total):
        raise Stopped

    with pytest.raises(Stopped):
        load_tables(store, project.loaded, now=NOW, progress=stop)
    assert load_tables(store, project.loaded, now=NOW).read
    assert store.read(count_leads) == 60
    assert not load_tables(store, project.loaded, now=NOW).read


def test_the_stores_history_is_a_project_that_batch_reads(project, store):
    load_tables(store, project.loaded, now=NOW)
    with store_tables(store, project.loaded) as stored:
        tables = open_tables(stored)
        expected = project.tables
        assert tables.observed_until == expected.observed_until
        ids = list(expected.leads["lead_id"])
        for lead_id, lead in expected.stored_leads(ids).items():
            other = tables.lead(lead_id)
            assert (other.created, other.attributes) == (lead.created, lead.attributes)
            assert sorted(other.events, key=str) == sorted(lead.events, key=str)
        folder = stored.data_root
    assert not folder.exists()
