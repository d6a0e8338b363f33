"""Stored history as a project's tables: a lead read from the store and from the export is the same lead."""

import pytest

from predictive_scoring.data.sinks import write_tables
from predictive_scoring.data.sources import load_project, open_tables
from predictive_scoring.features.definitions import AttributeFeature
from predictive_scoring.features.online import feature_values
from predictive_scoring.keeping.store.activity import Consent, TouchMade, record
from predictive_scoring.keeping.store.export import tables_of
from predictive_scoring.keeping.store.histories import read_leads, typed
from predictive_scoring.keeping.store.messages import Message
from store_messages import NOON, drawn, event, identify, ingested

PROJECT = """
name: small
sources:
  leads: {path: leads.parquet}
  events: {path: events.parquet}
  attribute_changes: {path: attribute_changes.parquet}
  touches: {path: touches.parquet}
attributes:
  title: {type: category, label: Title, history: true}
  company_size: {type: number, label: Employees, history: true}
  country: {type: category, label: Country, immutable: true}
  founded: {type: number, label: Founded, immutable: true}
events:
  page_view: {label: Page view}
  won: {label: Won}
event_properties: {duration_seconds: number, topic: category}
conversion: {event: won, horizon: 30d}
cutoffs: {first: 2026-01-01T00:00:00Z, every: 14d}
readiness: {weekly_capacity: 10}
contact:
  consent: {email: consent_email, phone: consent_phone}
  opted_out: opted_out
  time_zone: time_zone
"""


@pytest.fixture
def loaded(tmp_path):
    (tmp_path / "scoring.yaml").write_text(PROJECT)
    return load_project(tmp_path / "scoring.yaml")


def test_a_lead_of_the_store_and_of_its_export_is_the_same_lead(store, loaded):
    odd = {"duration_seconds": "12.5", "topic": 7, "unknown": 1}
    ingested(
        store,
        *drawn(3, 200),
        identify("c1", "L-01", 500, country="DE", founded="1998", consent_email="true", opted_out=False),
        identify("c2", "L-02", 500, country=49, founded="long ago", consent_email="perhaps", opted_out=None),
        identify("c3", "L-03", 500, founded=[1], consent_phone=True, time_zone="Europe/Berlin"),
        event("odd", "L-01", 501, properties=odd),
        event("odder", "L-01", 502, properties={"duration_seconds": {"a": 1}, "topic": True}),
        event("oddest", "L-01", 503, properties={"duration_seconds": True, "topic": ["x"]}),
        Message("a", NOON + 600, NOON + 600, "L-04", previous_id="L-05"),
        event("visitor", None, anonymous_id="nobody"),
    )
    told = [
        TouchMade("t1", "L-01", "case_study", "email", NOON, NOON, 0.25, True),
        TouchMade("t2", "L-05", "call", "phone", NOON + 5, NOON),
        Consent("L-01", "email", False, NOON + 800, NOON + 800),
        Consent("L-02", "email", True, NOON + 400, NOON + 400),
        Consent("L-06", "phone", True, NOON, NOON),
    ]
    store.write(lambda tx: record(tx, told, NOON))

    frames = store.read(lambda tx: tables_of(tx, loaded.project))
    assert "anonymous" not in frames["leads"]["lead_id"].str.cat()
    assert "visitor" not in set(frames["events"]["event_id"])
    write_tables(loaded, frames)
    tables = open_tables(loaded)

    ids = tables.leads["lead_id"].tolist()
    here = store.read(lambda tx: read_leads(tx, ids, loaded.project))
    there = tables.stored_leads(ids)
    assert len(ids) == 19
    for lead_id in ids:
        assert plain(here[lead_id]) == plain(there[lead_id])
    assert here["L-01"].attributes == {
        "country": "DE",
        "founded": 1998.0,
        "consent_email": False,
        "consent_phone": None,
        "opted_out": False,
        "time_zone": None,
    }
    assert here["L-02"].attributes["consent_email"] is None, "the trait came later and says nothing"
    assert here["L-02"].attributes["country"] == "49"
    features = [AttributeFeature("title", "category", "Title", "Title", history=True)]
    for cutoff in (NOON + 100, NOON + 700):
        for lead_id in ids:
            assert feature_values(here[lead_id], cutoff, features) == feature_values(
                there[lead_id], cutoff, features
            )


def plain(lead):
    return (
        lead.lead_id,
        lead.created,
        dict(lead.attributes),
        sorted((e.event_id, e.event_type, e.occurred, e.known, str(dict(e.properties))) for e in lead.events),
        sorted((t.touch_id, t.action_id, t.channel, t.occurred) for t in lead.touches),
        sorted((c.attribute, c.value, c.occurred, c.known) for c in lead.changes),
    )


def test_an_empty_store_gives_empty_tables_with_their_columns(store, loaded):
    frames = store.read(lambda tx: tables_of(tx, loaded.project))
    assert {name: len(frame) for name, frame in frames.items()} == dict.fromkeys(frames, 0)
    assert {"event_id", "known_at", "topic"} <= set(frames["events"])
    write_tables(loaded, frames)
    assert len(open_tables(loaded).leads) == 0


@pytest.mark.parametrize(
    ("value", "number", "category", "flag"),
    [
        (None, None, None, None),
        (True, None, "true", True),
        ("false", None, "false", False),
        ("no", None, "no", False),
        (" Yes", None, " Yes", True),
        (1, 1.0, "1", True),
        ("maybe", None, "maybe", None),
        (3, 3.0, "3", None),
        (3.0, 3.0, "3", None),
        (" 4e1 ", 40.0, " 4e1 ", None),
        ("nan", None, "nan", None),
        ("1e999", None, "1e999", None),
        (10**400, None, str(10**400), None),
        ([1], None, "[1]", None),
        ("", None, "", None),
    ],
)
def test_a_value_is_read_as_its_declared_kind_or_as_none(value, number, category, flag):
    assert typed(value, "number") == number
    assert typed(value, "category") == category
    assert typed(value, "flag") is flag
