"""The curve over several horizons: rising, exact at the main one, right in a world whose times are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from predictive_scoring.model.curve import ConversionCurve, fit_curve
from predictive_scoring.timeline import DAY

MAIN = 30 * DAY
HORIZONS = (7 * DAY, 60 * DAY, 90 * DAY)


def world(seed: int, n: int = 20_000, longest: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-odds at 30 days, days to conversion and days followed: log-logistic times, for which odds are proportional
    (odds(t) = exp(z) (t / 30)^1.3), followed for 30 days or more."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-2.0, 1.0, n)
    u = rng.random(n)
    when = 30.0 * (u / (1 - u) * np.exp(-z)) ** (1 / 1.3)
    return z, when, rng.uniform(30, longest, n)


def curve_of(z: np.ndarray, when: np.ndarray, followed: np.ndarray, **more: object) -> ConversionCurve:
    seen = np.where(when < followed, when, np.nan) * DAY
    return fit_curve(z, seen, followed * DAY, HORIZONS, MAIN, **more)


@settings(max_examples=60, deadline=None, print_blob=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 400),
    longest=st.integers(31, 200),
    logits=st.lists(st.floats(-15, 15), min_size=1, max_size=5),
)
def test_any_curve_rises_and_is_the_main_probability_at_the_main_horizon(
    seed: int, n: int, longest: int, logits: list[float]
) -> None:
    curve = curve_of(*world(seed, n, longest))
    told = curve.probabilities(logits)
    assert (np.diff(told, axis=1) >= 0).all()
    assert list(curve.horizons) == sorted(curve.horizons)
    assert np.abs(told[:, curve.horizons.index(MAIN)] - expit(logits)).max() <= 1e-12
    assert {*curve.horizons, *curve.left_out} == {*HORIZONS, MAIN}
    days = curve.expected_days(logits)
    assert ((days > 0) & (days < curve.grid[-1] / DAY)).all()
    again = ConversionCurve.from_document(curve.to_document())
    assert again == curve


def test_in_a_world_with_known_times_every_horizon_is_unbiased() -> None:
    z, when, followed = world(20261122)
    curve = curve_of(z, when, followed)
    assert curve.horizons_days == (7, 30, 60, 90)
    fresh, later, _ = world(1)
    told = curve.probabilities(fresh)
    for column, days in enumerate(curve.horizons_days):
        truth = 1 / (1 + np.exp(-fresh) * (days / 30) ** -1.3)
        assert told[:, column].mean() == pytest.approx(truth.mean(), rel=0.03)
        likely = fresh > 0
        assert told[likely, column].mean() == pytest.approx(truth[likely].mean(), rel=0.03)
    # Expected time of those that convert by the longest horizon, for unlikely and likely leads.
    for chosen in (fresh < -2, fresh >= -1):
        inside = chosen & (later < 90)
        probability = expit(fresh + curve.levels[-1])
        expected = np.average(curve.expected_days(fresh)[chosen], weights=probability[chosen])
        assert expected == pytest.approx(later[inside].mean(), rel=0.04)
    assert (np.diff(curve.expected_days(np.linspace(-6, 4, 50))) < 0).all()


def test_censored_follow_up_bends_nothing_and_neither_does_a_level_that_drifted() -> None:
    z, when, followed = world(5)
    full = curve_of(z, when, np.full(len(z), 200.0))
    for other in (curve_of(z, when, followed), curve_of(z + 0.7, when, followed)):
        assert np.abs(np.array(other.levels) - np.array(full.levels)).max() < 0.12


def test_weights_stand_for_examples() -> None:
    z, when, _ = world(6, 2_000)
    weight = np.random.default_rng(6).integers(1, 4, len(z))
    repeated = np.repeat(np.arange(len(z)), weight)
    heavy = curve_of(z, when, np.full(len(z), 100.0), weight=weight)
    many = curve_of(z[repeated], when[repeated], np.full(len(repeated), 100.0))
    assert np.allclose(heavy.levels, many.levels, atol=1e-9)


def test_a_horizon_that_hardly_anybody_was_followed_for_is_left_out_and_said_so() -> None:
    z, when, _ = world(7, 4_000)
    curve = curve_of(z, when, np.full(len(z), 65.0))
    assert curve.horizons_days == (7, 30, 60)
    still = int((when >= 30).sum())
    assert curve.left_out == {90 * DAY: f"90 days: only 0 of {still} examples were followed that long"}
    few = fit_curve(z[:9], np.full(9, DAY), np.full(9, 99.0 * DAY), HORIZONS, MAIN)
    assert few.horizons == (MAIN,)
    assert "only 9 conversions" in few.left_out[60 * DAY]
    # A lead whose own window has ended was followed for ever: nothing can come any more.
    ended = curve_of(z, np.where(when < 30, when, np.inf), np.full(len(z), np.inf))
    assert ended.probabilities([0.0])[0].tolist()[1:] == pytest.approx([0.5, 0.5, 0.5])


def test_a_snapshot_knows_the_main_horizon_only() -> None:
    n = 500
    curve = fit_curve(np.zeros(n), np.full(n, np.nan), np.full(n, float(MAIN)), (), MAIN)
    assert curve.horizons == curve.grid == (MAIN,)
    assert curve.expected_days([0.0]).tolist() == [15.0]
