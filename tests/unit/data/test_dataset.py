"""The dataset of a small project: rows, kinds, values and hash."""

from __future__ import annotations

import dataclasses
import random

import ibis
import numpy as np
import pandas as pd
import pytest

from predictive_scoring.data.dataset import (
    PERIODS,
    Dataset,
    build_dataset,
    conversions,
    event_types,
    feature_frame,
)
from predictive_scoring.data.engines import Duckdb
from predictive_scoring.data.sources import Tables
from predictive_scoring.features.catalog import views_of
from predictive_scoring.features.online import feature_values
from predictive_scoring.settings import Project
from predictive_scoring.timeline import DAY

START = 1_767_225_600  # 2026-01-01
PROJECT = Project.model_validate(
    {
        "name": "demo",
        "sources": {"leads": {"path": "l.csv"}, "events": {"path": "e.csv"}},
        "attributes": {
            "title": {"type": "category", "label": "Title", "immutable": True},
            "size": {"type": "number", "label": "Size", "immutable": True},
        },
        "events": {name: {"label": name} for name in ("page_view", "pricing_view", "won")},
        "event_properties": {"duration_seconds": "number", "topic": "category"},
        "conversion": {"event": "won", "horizon": 30 * DAY},
        "cutoffs": {"first": START, "every": 14 * DAY},
        "feature_views": [
            "tenure",
            "visits",
            "pricing",
            {
                "name": "own",
                "features": [
                    {
                        "aggregate": "latest",
                        "events": ["page_view"],
                        "column": "topic",
                        "label": "Topic",
                        "concept": "T",
                    }
                ],
            },
        ],
        "readiness": {"share": 0.1},
    }
)


def small_tables() -> Tables:
    chance = random.Random(5)
    leads = pd.DataFrame(
        {
            "lead_id": [f"{number:03}" for number in range(90)],
            "created": [START + chance.randrange(200) * DAY + chance.randrange(DAY) for _ in range(90)],
            "title": pd.array([chance.choice(["CTO", None, "Clerk"]) for _ in range(90)], dtype="str"),
            "size": [chance.choice([np.nan, 1.0, 250.0]) for _ in range(90)],
        }
    )
    rows = []
    for lead_id, created in zip(leads["lead_id"], leads["created"], strict=True):
        for number in range(chance.randrange(12)):
            occurred = created + chance.randrange(-20 * DAY, 120 * DAY)
            kind = chance.choice(["page_view", "page_view", "pricing_view"])
            seconds, topic = chance.choice([None, 1.0, 30.0]), chance.choice([None, "a", "b"])
            rows.append((f"{lead_id}-{number}", lead_id, kind, occurred, occurred, seconds, topic))
        if chance.random() < 0.6:
            occurred = created + chance.randrange(160 * DAY)
            rows.append((f"{lead_id}-won", lead_id, "won", occurred, occurred, None, None))
        rows.append((f"lead_created:{lead_id}", lead_id, "lead_created", created, created, None, None))
    names = ["event_id", "lead_id", "event_type", "occurred", "known", "duration_seconds", "topic"]
    events = pd.DataFrame(rows, columns=names).astype({"duration_seconds": "float64", "topic": "str"})
    connection = ibis.duckdb.connect()
    touches = pd.DataFrame({name: [] for name in ("touch_id", "lead_id", "action_id", "channel", "occurred")})
    until = START + 270 * DAY
    return Tables(
        PROJECT, Duckdb(connection), leads, connection.create_table("events", events), touches, until
    )


@pytest.fixture(scope="module")
def tables() -> Tables:
    return small_tables()


@pytest.fixture(scope="module")
def dataset(tables: Tables) -> Dataset:
    return build_dataset(tables, views_of(PROJECT))


def test_every_row_of_features_is_that_lead_at_that_cutoff(tables: Tables, dataset: Dataset) -> None:
    rows = dataset.frame.astype(object).where(dataset.frame.notna(), None).to_dict("records")
    leads = {lead_id: tables.lead(lead_id) for lead_id in tables.leads["lead_id"]}
    assert len(rows) == len(dataset.observations) > 200
    for (_, observed), row in zip(dataset.observations.iterrows(), rows, strict=True):
        assert row == feature_values(leads[observed["lead_id"]], int(observed["cutoff"]), dataset.features)


def test_numbers_are_floats_and_categories_are_text_or_none(dataset: Dataset) -> None:
    assert (
        list(dataset.frame.columns) == [feature.name for feature in dataset.features] == list(dataset.kinds)
    )
    for name, kind in dataset.kinds.items():
        if kind == "number":
            assert dataset.frame[name].dtype == np.float64
        else:
            assert set(map(type, dataset.frame[name])) <= {str, type(None)}
    assert {name for name, kind in dataset.kinds.items() if kind == "category"} == {
        "title",
        "page_view_topic_latest",
    }


def test_rows_of_a_period_come_oldest_first_with_their_labels(dataset: Dataset) -> None:
    total = 0
    for period in PERIODS:
        frame, labels, lead_ids = dataset.rows(period)
        chosen = dataset.observations[dataset.observations["period"] == period]
        assert list(labels) == list(chosen["label"])
        assert list(lead_ids) == list(chosen["lead_id"])
        assert chosen["cutoff"].is_monotonic_increasing
        pd.testing.assert_frame_equal(frame, dataset.frame.loc[chosen.index].reset_index(drop=True))
        total += len(frame)
    both = dataset.rows("train", "test")[0]
    assert len(both) == len(dataset.rows("train")[0]) + len(dataset.rows("test")[0])
    assert total == len(dataset.frame)


def test_the_same_tables_give_the_same_hash_and_any_changed_value_another(dataset: Dataset) -> None:
    again = small_tables()
    assert build_dataset(again, views_of(PROJECT)).data_hash == dataset.data_hash
    seen = {dataset.data_hash}
    for column, value in (("size", 2.0), ("title", "Boss")):
        changed = again.leads.copy()
        changed[column] = changed[column].fillna(value)
        seen.add(build_dataset(dataclasses.replace(again, leads=changed), views_of(PROJECT)).data_hash)
    assert len(seen) == 3
    fewer = [view for view in views_of(PROJECT) if view.name != "pricing"]
    assert build_dataset(again, fewer).data_hash not in seen


def test_a_conversion_seen_after_the_label_changes_the_hash_for_the_curve_reads_it(
    tables: Tables, dataset: Dataset
) -> None:
    later = dataclasses.replace(tables, observed_until=tables.observed_until - DAY)
    earlier = build_dataset(later, views_of(PROJECT))
    same = ["lead_id", "cutoff", "label", "period"]
    assert earlier.observations[same].equals(dataset.observations[same])
    assert earlier.data_hash != dataset.data_hash


def test_properties_that_are_summed_are_asked_whether_they_are_ever_negative(
    tables: Tables, dataset: Dataset
) -> None:
    assert dataset.never_negative == {"duration_seconds"}
    frame = tables.events.to_pandas()
    frame.loc[frame["duration_seconds"].notna().idxmax(), "duration_seconds"] = -1.0
    connection = ibis.duckdb.connect()
    other = dataclasses.replace(
        tables, engine=Duckdb(connection), events=connection.create_table("events", frame)
    )
    assert build_dataset(other, views_of(PROJECT)).never_negative == frozenset()


def test_the_answer_stands_in_the_order_of_the_question(tables: Tables, dataset: Dataset) -> None:
    asked = dataset.observations.sample(frac=1.0, random_state=3).reset_index(drop=True)
    answered = feature_frame(tables, asked, dataset.features)
    expected = dataset.frame.loc[asked["observation_id"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(answered, expected)


def test_conversions_are_the_first_of_each_lead_and_types_come_most_frequent_first(tables: Tables) -> None:
    events = tables.events.to_pandas()
    won = events[events["event_type"] == "won"].groupby("lead_id")["occurred"].min()
    assert conversions(tables).sort_index().to_dict() == won.to_dict()
    counts = events["event_type"].value_counts()
    assert [counts[name] for name in event_types(tables)] == sorted(counts, reverse=True)
