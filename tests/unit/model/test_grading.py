import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictive_scoring.model.grading import Grading, break_even_probability, learn_grading
from predictive_scoring.model.logistic import expit

Z = np.random.default_rng(0).normal(-3.0, 1.0, 900)
GRADING = learn_grading(Z, Z * 0.5, Z * 0.2, ready_share=0.1)
logits = st.floats(-15.0, 15.0)


@given(logits, logits)
def test_the_score_is_monotone_and_within_bounds(a, b):
    low, high = sorted((a, b))
    assert 1 <= GRADING.score(low) <= GRADING.score(high) <= 99


def test_fifty_at_the_reference_and_ten_points_per_doubling():
    reference = GRADING.reference_log_odds
    assert reference == pytest.approx(math.log(expit(Z).mean() / (1 - expit(Z).mean())))
    assert [GRADING.score(reference + k * math.log(2.0)) for k in range(-4, 5)] == list(range(10, 91, 10))
    assert GRADING.scores([-15.0, 15.0]).tolist() == [1, 99]


def test_the_reference_survives_a_retrain():
    later = learn_grading(Z + 1.0, Z, Z, ready_share=0.1, reference_log_odds=GRADING.reference_log_odds)
    assert later.reference_log_odds == GRADING.reference_log_odds
    assert later.score(-1.0) == GRADING.score(-1.0)


def test_percentiles_are_mid_ranks():
    percentiles = [GRADING.percentile(s) for s in range(1, 100)]
    assert percentiles == sorted(percentiles)
    scores = GRADING.scores(Z)
    s = int(scores[0])
    assert GRADING.percentile(s) == pytest.approx(100 * ((scores < s).mean() + 0.5 * (scores == s).mean()))


def test_grades_split_the_population_in_thirds():
    letters = [GRADING.grade(f, e)[0] for f, e in zip(Z * 0.5, Z * 0.2, strict=True)]
    assert [letters.count(c) for c in "ABC"] == [300, 300, 300]
    assert {GRADING.grade(9, 9), GRADING.grade(-9, -9)} == {"A1", "C3"}
    assert learn_grading(Z, np.zeros(900), Z, ready_share=0.1).grade(0.0, 9.0) == "B1"


@given(st.floats(0.0, 1.0))
def test_capacity_leaves_the_share_ready_within_one_lead(share):
    grading = learn_grading(Z, Z, Z, ready_share=share)
    ready = sum(grading.readiness(p) == "ready" for p in expit(Z))
    assert abs(ready - share * len(Z)) <= 1


def test_a_change_of_side_needs_a_clear_crossing():
    grading = learn_grading(Z, Z, Z, ready_probability=0.2)
    assert grading.readiness(0.2) == "ready"
    assert grading.readiness(0.21, previous="nurture") == "nurture"
    assert grading.readiness(0.221, previous="nurture") == "ready"
    assert grading.readiness(0.19, previous="ready") == "ready"
    assert grading.readiness(0.179, previous="ready") == "nurture"


def test_value_draws_the_line_at_break_even():
    assert break_even_probability(50.0, 0.25, 2000.0) == pytest.approx(0.1)
    for bad in ((0.0, 0.5, 1.0), (1.0, 1.5, 1.0), (1.0, 0.5, -1.0)):
        with pytest.raises(ValueError, match="win_rate"):
            break_even_probability(*bad)
    hopeless = learn_grading(Z, Z, Z, ready_probability=break_even_probability(50.0, 0.5, 60.0))
    assert hopeless.readiness(0.999999) == "nurture"


def test_a_document_round_trip():
    assert Grading.from_document(json.loads(json.dumps(GRADING.to_document()))) == GRADING


def test_refusals():
    with pytest.raises(ValueError, match="exactly one"):
        learn_grading(Z, Z, Z)
    with pytest.raises(ValueError, match="exactly one"):
        learn_grading(Z, Z, Z, ready_share=0.1, ready_probability=0.1)
    with pytest.raises(ValueError, match="ready_share"):
        learn_grading(Z, Z, Z, ready_share=1.5)
    with pytest.raises(ValueError, match="ready_probability"):
        learn_grading(Z, Z, Z, ready_probability=0.0)
    with pytest.raises(ValueError, match="population"):
        learn_grading([], [], [], ready_share=0.1)
    with pytest.raises(ValueError, match="in order"):
        learn_grading(Z, Z, Z, ready_share=0.1, fit_cuts=(1.0, 0.0))
