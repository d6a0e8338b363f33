"""Drift: what PSI and shares say of a population then and now."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictive_scoring.model.drift import (
    LEVEL,
    feature_drifts,
    findings,
    holm,
    score_drift,
    score_tenths,
    share_shift,
)
from predictive_scoring.model.reference import Reference, learn_reference

RANDOM = np.random.default_rng(5)
KINDS = {"number": "number", "rare": "number", "level": "category"}


def population(n, seed=0, *, mean=0.0, gap=0.1, strange=0.0):
    random = np.random.default_rng(seed)
    level = random.choice(["a", "b", "c", "d"], n, p=[0.5, 0.3, 0.15, 0.05]).astype(object)
    level[random.random(n) < strange] = "never listed"
    number = random.normal(mean, 1.0, n)
    number[random.random(n) < gap] = np.nan
    return pd.DataFrame({"number": number, "rare": random.poisson(0.2, n).astype(float), "level": level})


REFERENCE = learn_reference(population(5000), KINDS)


def told(frame, psi=0.25):
    return {(found.kind, found.drift.name) for found in findings(feature_drifts(REFERENCE, frame), psi=psi)}


def test_each_kind_of_change_is_told_by_its_name_and_once():
    assert told(population(1000, 1)) == set()
    assert told(population(1000, 2, mean=1.0)) == {("moved", "number")}
    assert told(population(1000, 3, gap=0.6)) == {("missing", "number")}
    assert told(population(1000, 4, strange=0.3)) == {("new_levels", "level")}
    assert told(population(1000, 5, mean=2.0, gap=0.6)) == {("moved", "number"), ("missing", "number")}


def test_psi_is_the_textbook_sum_over_bins():
    before = pd.DataFrame({"level": ["a"] * 6000 + ["b"] * 4000})
    now = pd.DataFrame({"level": ["a"] * 3000 + ["b"] * 7000})
    (drift,) = feature_drifts(learn_reference(before, {"level": "category"}), now)
    assert drift.psi == pytest.approx(-0.3 * np.log(0.3 / 0.6) + 0.3 * np.log(0.7 / 0.4), rel=1e-3)
    assert drift.by_chance == pytest.approx(2 / 10_000)
    assert (drift.bins, drift.rows) == (2, 10_000)


def test_missing_values_are_a_bin_of_their_own():
    with_gaps = population(2000, 6, gap=0.7)
    number = next(one for one in feature_drifts(REFERENCE, with_gaps) if one.name == "number")
    assert number.psi > 0.5
    assert number.psi_present < 0.05
    assert number.missing.before == pytest.approx(0.1, abs=0.02)
    assert number.missing.now == pytest.approx(0.7, abs=0.03)


def test_ties_at_quantiles_do_not_look_like_drift():
    # 80 % of the values are equal: seven deciles are one edge.
    rare = next(one for one in feature_drifts(REFERENCE, population(3000, 7)) if one.name == "rare")
    assert rare.psi < 0.02


def test_a_reference_without_edges_is_read_from_its_quantiles():
    document = REFERENCE.to_document()
    for entry in document["features"].values():
        del entry["edges"], entry["shares"]
    for name in ("leads", "score_shares", "newcomers"):
        del document[name]
    old = Reference.from_document(document)
    assert old.newcomers is None
    for seed, moved in ((8, 0.0), (9, 1.0)):
        drifts = {one.name: one.psi for one in feature_drifts(old, population(3000, seed, mean=moved))}
        assert (drifts["number"] > 0.25) == (moved > 0)
        assert drifts["rare"] < 0.05


def test_a_reference_survives_its_document_whole():
    frame = population(800)
    reference = learn_reference(
        frame,
        KINDS,
        leads=np.arange(800) // 2,
        scores=np.full(800, 50),
        newcomers=np.arange(800) < 300,
    )
    assert Reference.from_document(json.loads(json.dumps(reference.to_document()))) == reference
    assert (reference.rows, reference.leads, reference.independent_rows) == (800, 400, 400)
    assert reference.newcomers is not None
    assert (reference.newcomers.rows, reference.newcomers.leads) == (300, 150)
    assert reference.score_shares[49] == 1.0


def test_small_samples_and_absent_features_are_left_out():
    assert feature_drifts(REFERENCE, population(49)) == ()
    assert [one.name for one in feature_drifts(REFERENCE, population(500)[["rare"]])] == ["rare"]


def test_a_feature_that_is_empty_then_or_now_is_no_accident():
    empty = pd.DataFrame({"x": np.full(500, np.nan)})
    full = pd.DataFrame({"x": RANDOM.normal(size=500)})
    for before, now, after in ((empty, full, 0.0), (full, empty, 1.0)):
        (drift,) = feature_drifts(learn_reference(before, {"x": "number"}), now)
        assert np.isfinite(drift.psi)
        assert drift.missing.now == after
        assert [found.kind for found in findings([drift], psi=0.25)] == ["missing"]
    (drift,) = feature_drifts(learn_reference(empty, {"x": "number"}), empty)
    assert drift.psi == 0.0


def test_new_levels_are_named_only_where_they_are_frequent():
    frame = population(1000, 10, strange=0.2)
    frame.loc[:9, "level"] = "Jane Doe"
    drift = next(one for one in feature_drifts(REFERENCE, frame) if one.name == "level")
    assert [name for name, _ in drift.new_levels] == ["never listed"]


def test_scores_drift_by_tenths_of_the_reference():
    shares = np.full(99, 1 / 99)
    same, higher = RANDOM.integers(1, 100, 2000), np.minimum(RANDOM.integers(1, 100, 2000) + 30, 99)
    assert score_drift(shares, 5000, same).psi < 0.03
    assert score_drift(shares, 5000, higher).psi > 0.25
    assert score_drift((), 5000, same) is None
    assert score_drift(shares, 5000, same[:10]) is None
    tenths = score_tenths(shares, higher)
    assert (tenths[0].low, tenths[-1].high, len(tenths)) == (1, 99, 10)
    assert sum(one.before for one in tenths) == pytest.approx(1.0)
    assert sum(one.now for one in tenths) == pytest.approx(1.0)
    assert tenths[0].now == 0.0


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30))
def test_corrected_p_values_are_larger_ordered_and_at_most_one(p_values):
    p, corrected = np.array(p_values), holm(p_values)
    assert (corrected >= p).all()
    assert (corrected <= 1.0).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(corrected[order]) >= 0).all()
    assert corrected[order[0]] == min(1.0, p.min() * len(p))


@given(st.floats(0.0, 1.0), st.integers(1, 10_000), st.integers(1, 500))
def test_a_share_that_did_not_change_is_never_significant(before, m, n):
    shift = share_shift(before, m, round(before * n), n)
    assert shift.p_value > LEVEL or abs(shift.points) > 0.5 / n
