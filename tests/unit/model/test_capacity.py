"""The capacity planner: where the line lies, what lies above it, and what moving it brings."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.special import logit as log_odds
from scipy.stats import binom

from predictive_scoring.model.capacity import CapacityPlan, Value, capacity_line, plan_capacity
from predictive_scoring.model.grading import learn_grading

DAYS = 90
Z = np.random.default_rng(5).normal(-2.5, 1.0, 700)
P = expit(Z)
GRADING = learn_grading(Z, Z, Z, ready_share=0.1)


def plan(p=P, width=0.0, **more) -> CapacityPlan:
    z = log_odds(p)
    more.setdefault("weekly_capacity", 10)
    return plan_capacity(p, (expit(z - width), expit(z + width)), GRADING, days=DAYS, **more)


@given(st.integers(1, 80), st.integers(1, 900), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_as_many_leads_as_can_be_worked_lie_above_the_line_within_one(capacity, n, seed):
    p = expit(np.random.default_rng(seed).normal(-3.0, 1.0, n))
    ready = int((p >= capacity_line(p, capacity, DAYS)).sum())
    assert abs(ready - min(n, capacity * DAYS / 7)) <= 1
    assert plan(p, weekly_capacity=capacity).here.leads == pytest.approx(ready * 7 / DAYS)


def test_the_line_does_not_depend_on_the_order_of_leads():
    shuffled = np.random.default_rng(1).permutation(P)
    assert plan(shuffled, 0.3) == plan(P, 0.3)


def test_without_doubt_about_the_model_a_week_is_a_plain_binomial():
    here = plan().here
    ready = np.sort(P)[::-1][: round(10 * DAYS / 7)]
    assert here.conversions == pytest.approx(10 * ready.mean(), rel=0.01)
    assert here.low == pytest.approx(here.conversions) == here.high
    assert (here.week_low, here.week_high) == tuple(
        int(k) for k in binom.ppf([0.05, 0.95], round(here.leads), ready.mean())
    )


def test_doubt_about_the_model_widens_both_ranges():
    sure, unsure = plan(width=0.1, weekly_capacity=40).here, plan(width=0.8, weekly_capacity=40).here
    assert unsure.low < sure.low < sure.conversions < sure.high < unsure.high
    assert unsure.week_low < sure.week_low < sure.week_high < unsure.week_high
    assert sure.conversions == unsure.conversions


def test_the_range_of_the_mean_is_the_sum_of_the_ranges_moved_together():
    here = plan(width=0.5).here
    z = np.sort(Z)[::-1][: round(10 * DAYS / 7)]
    # 101 values of the common error stand for all of them, so the ends are right to about a step.
    assert here.low == pytest.approx(here.leads * expit(z - 0.5).mean(), rel=0.02)
    assert here.high == pytest.approx(here.leads * expit(z + 0.5).mean(), rel=0.02)


def test_more_time_means_more_leads_a_lower_line_and_less_per_extra_lead():
    moves = plan(width=0.2).moves
    assert [move.factor for move in moves] == sorted(move.factor for move in moves)
    places = [move.to for move in moves]
    for less, more in pairwise(places):
        assert more.leads > less.leads
        assert more.conversions > less.conversions
        assert more.line < less.line
        assert more.score <= less.score
        assert more.conversions / more.leads < less.conversions / less.leads
    gained = [move.per_extra_lead for move in moves if move.factor > 1]
    assert gained == sorted(gained, reverse=True)


@given(st.floats(0.05, 1.0), st.floats(1.0, 1e6), st.floats(0.01, 1e4))
@settings(max_examples=30, deadline=None)
def test_money_adds_up_along_every_move(win_rate, value, cost):
    made = plan(value=Value(win_rate, value, cost))
    for move in made.moves:
        assert move.extra_profit == pytest.approx(
            move.to.profit - made.here.profit, rel=1e-9, abs=1e-9 * value
        )
        assert move.to.profit == pytest.approx(
            move.to.conversions * win_rate * value - move.to.leads * cost, rel=1e-9
        )


def test_where_all_can_be_worked_the_plan_says_so():
    made = plan(P[:50])
    assert made.enough
    assert made.here.leads == pytest.approx(50 * 7 / DAYS)
    assert made.sentence().startswith("Work every lead: ")
    assert made.moves[-1].extra_leads == 0
    assert made.moves[-1].per_extra_lead is None


def test_leads_that_share_a_probability_are_all_ready_or_none():
    made = plan(np.repeat([0.3, 0.1], 400), weekly_capacity=10)
    assert made.here.leads == pytest.approx(400 * 7 / DAYS)
    assert made.here.line == 0.3


def test_no_open_lead_is_a_plan_too():
    made = plan(np.array([]))
    assert (made.here.leads, made.here.conversions, made.here.week_high) == (0.0, 0.0, 0)
    assert "nothing to work" in made.sentence()


def test_the_sentence_names_score_leads_and_conversions():
    here = plan(width=0.3).here
    assert plan(width=0.3).sentence() == (
        f"Work every lead with a score of {here.score} or more: {here.leads:.0f} a week, of which "
        f"{here.conversions:.1f} ({here.low:.1f} to {here.high:.1f}) should convert."
    )


def test_the_document_is_json_and_holds_no_nan():
    document = json.loads(json.dumps(plan(value=Value(0.2, 900.0, 30.0)).to_document(), allow_nan=False))
    assert document["here"]["profit"] is not None
    assert len(document["moves"]) == 5
    assert not math.isnan(document["here"]["conversions"])


def test_a_capacity_below_one_lead_in_all_that_time_is_refused():
    with pytest.raises(ValueError, match="less than one lead"):
        capacity_line(P, 0.01, DAYS)
