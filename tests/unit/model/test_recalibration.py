"""Mending the level of probabilities: shifts, calibrations that carry them, and a filter that never looks ahead."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from predictive_scoring.model.calibration import PlattCalibration, fit_platt
from predictive_scoring.model.evaluation import evaluate, row_losses
from predictive_scoring.model.recalibration import (
    followed,
    known_after,
    prior_shift,
    recalibrated,
    shift_error,
)


def world(seed, n, *, shift=0.0, base=-2.0):
    """True log-odds as a model gave them before a shift, and outcomes after it."""
    random = np.random.default_rng(seed)
    z = random.normal(base, 0.8, n)
    return z, (random.random(n) < expit(z + shift)).astype(float)


@pytest.mark.parametrize("shift", [-1.2, 0.7, 1.5])
def test_the_shift_makes_the_mean_prediction_the_observed_rate(shift):
    z, y = world(1, 20_000, shift=shift)
    found = prior_shift(z, y)
    assert expit(z + found).mean() == pytest.approx(y.mean(), abs=1e-3)
    assert found == pytest.approx(shift, abs=3 * shift_error(z, y) + 0.02)


def test_few_rows_move_little_and_none_move_nothing():
    assert prior_shift([], []) == 0.0
    assert 0.0 < prior_shift(np.full(5, -3.0), np.ones(5)) < 1.2
    assert -0.3 < prior_shift(np.full(10, -2.0), np.zeros(10)) < 0.0


@given(st.integers(2, 5), st.integers(0, 99))
def test_a_whole_weight_is_so_many_rows(times, seed):
    z, y = world(seed, 60)
    assert prior_shift(z, y, np.full(60, times)) == pytest.approx(
        prior_shift(np.tile(z, times), np.tile(y, times)), abs=1e-9
    )


def test_the_standard_error_covers_the_spread_of_shifts_and_sees_leads_that_repeat():
    found, errors = zip(
        *[(prior_shift(*world(s, 500)), shift_error(*world(s, 500))) for s in range(200)], strict=True
    )
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.2)
    z, y = world(3, 500)
    repeated = (np.repeat(z, 4), np.repeat(y, 4))
    lead = np.repeat(np.arange(500), 4)
    assert shift_error(*repeated, groups=lead) == pytest.approx(shift_error(z, y), rel=0.1)
    assert shift_error(*repeated) < 0.6 * shift_error(*repeated, groups=lead)


def test_a_recalibrated_calibration_has_the_new_level_the_old_order_and_a_range_that_covers_it():
    margin, y = world(5, 4000)
    before = fit_platt(margin, y, seed=1, replicates=60)
    fresh, outcome = world(6, 3000, shift=1.0)
    after = recalibrated(before, fresh, outcome)
    assert after.slope == before.slope
    assert after.probability(fresh).mean() == pytest.approx(outcome.mean(), abs=0.003)
    assert len(after.replicates) == 60
    at = np.array([fresh.mean()])
    low, high = after.interval(at)
    assert low[0] < expit(fresh.mean() + 1.0) < high[0]
    # The spread of the level is at least what so many rows leave open.
    levels = np.array(after.replicates) @ np.array([fresh.mean(), 1.0])
    assert levels.std() >= 0.7 * shift_error(before.logit(fresh), outcome)


def test_a_new_slope_only_where_it_is_asked_for_and_never_the_wrong_way_round():
    z, _ = world(7, 5000)
    y = (np.random.default_rng(8).random(5000) < expit(-0.5 * z)).astype(float)
    calibration = PlattCalibration(1.0, 0.0, ((1.0, 0.1),))
    assert recalibrated(calibration, z, y).slope == 1.0
    turned = recalibrated(calibration, z, y, slope=True)
    assert 0.0 < turned.slope < 1.0
    assert all(slope > 0.0 for slope, _ in turned.replicates)


def test_without_rows_a_calibration_stays_and_the_same_seed_gives_the_same():
    calibration = PlattCalibration(0.9, -0.1, ((0.8, 0.0), (1.0, -0.2)))
    assert recalibrated(calibration, [], []) is calibration
    z, y = world(9, 300)
    assert recalibrated(calibration, z, y, seed=4) == recalibrated(calibration, z, y, seed=4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 80), st.integers(0, 149))
def test_following_reads_no_outcome_before_it_is_known(seed, wait, row):
    z, y = world(seed, 150)
    other = y.copy()
    other[row] = 1.0 - y[row]
    first, second = followed(z, y, wait), followed(z, other, wait)
    assert np.array_equal(first[: row + wait], second[: row + wait])


def test_following_costs_next_to_nothing_where_nothing_moves():
    excess = []
    for seed in range(3):
        z, y = world(20 + seed, 4000)
        excess.append(row_losses(y, expit(followed(z, y, 200))).mean() - row_losses(y, expit(z)).mean())
    assert np.mean(excess) < 1e-3, excess


@pytest.mark.parametrize("shift", [-1.0, 1.2])
def test_following_gets_calibrated_again_after_the_base_rate_has_moved(shift):
    z, _ = world(31, 6000, base=-1.5)
    later = np.arange(6000) >= 2000
    y = (np.random.default_rng(32).random(6000) < expit(z + shift * later)).astype(float)
    p = expit(followed(z, y, 200))
    settled = np.arange(6000) >= 3500
    fair = evaluate(y[settled], expit(z + shift)[settled])
    mended, static = evaluate(y[settled], p[settled]), evaluate(y[settled], expit(z)[settled])
    assert mended.log_loss <= fair.log_loss + 0.004
    assert mended.ece <= fair.ece + 0.02
    assert static.log_loss > mended.log_loss + 0.02


def test_waiting_may_differ_from_row_to_row():
    z, y = world(40, 200)
    same = followed(z, y, np.full(200, 7))
    assert np.array_equal(same, followed(z, y, 7))
    assert not np.array_equal(same, followed(z, y, np.where(np.arange(200) % 2, 7, 90)))
    assert followed([], [], 1).shape == (0,)


def test_known_after_counts_rows_until_the_outcome_is_known():
    # Scored on days 0, 0, 1, 3; outcomes known two days later.
    assert known_after([0, 0, 1, 3], [2, 2, 3, 5]).tolist() == [3, 2, 1, 1]
    with pytest.raises(ValueError, match="one row later"):
        followed([0.0], [1.0], 0)
    with pytest.raises(ValueError, match="one outcome per row"):
        followed([0.0, 1.0], [1.0], 1)
