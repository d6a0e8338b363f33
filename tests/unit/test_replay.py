"""The comparison of served values with those of batch: a verdict for each pair, counted and shown."""

import math
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictive_scoring.features.definitions import AttributeFeature
from predictive_scoring.keeping.vectors import ServedVector, TornLine
from predictive_scoring.replay import EXAMPLES, Difference, Section, compare, replay, verdicts

VISITS = AttributeFeature("visits", "number", "Visits", "visits")
COUNTRY = AttributeFeature("country", "category", "Country", "country")
INF = math.inf


def judged(kind, served, batch, tolerance=1e-9):
    dtype = "float64" if kind == "number" else object
    (verdict,) = verdicts(kind, [served], pd.Series([batch], dtype=dtype), tolerance)
    return verdict


@pytest.mark.parametrize(
    ("served", "batch", "verdict"),
    [
        (3.0, 3.0, "match"),
        (3, 3.0, "match"),
        (0.0, -0.0, "match"),
        (None, math.nan, "match"),
        (1.0, 1.0 + 1e-12, "match"),
        (1e12, 1e12 + 1.0, "match"),
        (1e-12, 0.0, "match"),
        (INF, INF, "match"),
        (1.0, 1.0001, "mismatch"),
        (1e12, 1e12 + 1e5, "mismatch"),
        (INF, 1e300, "mismatch"),
        (INF, -INF, "mismatch"),
        ("3", 3.0, "mismatch"),
        (0.0, math.nan, "missing"),
        (3.0, math.nan, "missing"),
        (None, 0.0, "extra"),
        (None, 3.0, "extra"),
    ],
)
def test_numbers(served, batch, verdict):
    assert judged("number", served, batch) == verdict


@pytest.mark.parametrize(
    ("served", "batch", "verdict"),
    [
        ("DE", "DE", "match"),
        (None, None, "match"),
        ("DE", "de", "mismatch"),
        ("1", "1.0", "mismatch"),
        (1.0, "1.0", "mismatch"),
        ("", None, "missing"),
        ("DE", None, "missing"),
        (None, "DE", "extra"),
    ],
)
def test_categories(served, batch, verdict):
    assert judged("category", served, batch) == verdict


NUMBERS = st.one_of(st.none(), st.floats(allow_nan=False))


@given(NUMBERS, NUMBERS, st.sampled_from([0.0, 1e-9, 0.01]))
def test_the_two_readings_are_judged_alike(served, batch, tolerance):
    forth, back = judged("number", served, batch, tolerance), judged("number", batch, served, tolerance)
    assert back == {"missing": "extra", "extra": "missing"}.get(forth, forth)
    assert judged("number", served, served, tolerance) == "match"


def vector(lead_id, visits, country, **more):
    more = {"as_of": 100, "served_at": 200, "source": "stored", "bundle": "b", **more}
    return ServedVector(lead_id, values={"visits": visits, "country": country}, **more)


def test_a_comparison_counts_by_feature_and_shows_who_differs():
    vectors = [vector("L-1", 3.0, "DE"), vector("L-2", None, "DE"), vector("L-3", 1.0, None)]
    batch = pd.DataFrame({"visits": [3.0, 2.0, 1.5], "country": ["DE", "FR", None]})
    found = compare(vectors, batch, (VISITS, COUNTRY), 1e-9)
    assert (found.vectors, found.differing) == (3, 2)
    assert found.features == {
        "visits": {"match": 1, "mismatch": 1, "missing": 0, "extra": 1},
        "country": {"match": 2, "mismatch": 1, "missing": 0, "extra": 0},
    }
    assert found.examples == (
        Difference("visits", "extra", "L-2", 100, 200, None, 2.0),
        Difference("visits", "mismatch", "L-3", 100, 200, 1.0, 1.5),
        Difference("country", "mismatch", "L-2", 100, 200, "DE", "FR"),
    )


def test_comparisons_add_up_however_they_are_cut():
    vectors = [vector(f"L-{n}", float(n % 3), "DE" if n % 2 else None) for n in range(40)]
    batch = pd.DataFrame({"visits": [1.0] * 40, "country": pd.Series(["DE"] * 40, dtype=object)})
    features = (VISITS, COUNTRY)
    whole = compare(vectors, batch, features, 1e-9)
    parts = sum(
        (compare(vectors[n : n + 7], batch[n : n + 7], features, 1e-9) for n in range(0, 40, 7)), Section()
    )
    assert (parts.vectors, parts.differing, parts.features) == (
        whole.vectors,
        whole.differing,
        whole.features,
    )
    assert set(parts.examples) == set(whole.examples)
    assert len(whole.examples) == 2 * EXAMPLES


def tables(**leads):
    """Leads with attributes only: a whole reading without an event log."""
    frame = pd.DataFrame(
        [{"lead_id": lead_id, "visits": float(v), "country": "DE"} for lead_id, v in leads.items()]
    )
    return SimpleNamespace(leads=frame, events=None, observed_until=1000, attribute_changes=None)


def test_every_line_is_compared_or_told_why_not():
    kept = [
        vector("a", 1.0, "DE"),
        TornLine("2026-11-10.jsonl", 2),
        vector("a", 1.0, "DE", served_at=300),
        vector("a", 1.0, "DE", as_of=1000),
        vector("a", 1.0, "DE", as_of=1001),
        vector("gone", 1.0, "DE"),
        vector("a", 1.0, "DE", bundle="lost"),
        vector("a", 7.0, "DE", source="body"),
        vector("b", 9.0, "DE"),
    ]
    for chunk in (1, 4, 100):
        told = []
        found = replay(
            kept,
            tables(a=1, b=2),
            lambda bundle: (VISITS, COUNTRY) if bundle == "b" else None,
            chunk=chunk,
            progress=told.append,
        )
        assert told[-1] == len(kept)
        assert (found.stored.vectors, found.stored.differing) == (3, 1)
        assert (found.body.vectors, found.body.differing) == (1, 1)
        assert (found.repeated, found.torn, found.not_in_tables, found.ahead) == (1, 1, 1, 1)
        assert found.unknown_bundles == {"lost": 1}
        assert not found.is_clean


def test_what_a_sender_knows_otherwise_is_no_incident():
    kept = [vector("a", 7.0, "DE", source="body")]
    assert replay(kept, tables(a=1), lambda _: (VISITS, COUNTRY)).is_clean


def test_a_column_that_the_tables_lost_makes_its_feature_missing():
    without = tables(a=1)
    without.leads = without.leads.drop(columns="country")
    history = AttributeFeature("plan", "category", "Plan", "plan", history=True)
    found = replay([vector("a", 1.0, "DE")], without, lambda _: (VISITS, COUNTRY, history))
    assert found.stored.features["visits"]["match"] == 1
    assert found.stored.features["country"]["missing"] == 1
    # Served without a value by a bundle that has the feature.
    assert found.stored.features["plan"]["match"] == 1
