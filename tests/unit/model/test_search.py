from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictive_scoring.model.booster import DEFAULT_SETTINGS, BoosterSettings
from predictive_scoring.model.columns import Column
from predictive_scoring.model.folds import matured_rows, random_folds, time_blocks
from predictive_scoring.model.search import SIZES, Judged, Search, Trial, gain_error

COLUMNS = (Column("a", "number"), Column("b", "number"))


def searched(*, drifting: bool = True, training=None, n: int = 500) -> Search:
    random = np.random.default_rng(2)
    encoded = random.normal(size=(n, 2))
    y = (random.random(n) < 1.0 / (1.0 + np.exp(-encoded[:, 0] - 0.5))).astype(float)
    edges = (n // 2, 3 * n // 4, n)
    return Search(encoded, y, np.ones(n), COLUMNS, 1, edges, training=training, drifting=drifting)


@given(
    st.lists(st.integers(0, 5), min_size=4, max_size=40),
    st.integers(0, 6),
    st.integers(0, 4),
)
def test_a_block_learns_only_from_outcomes_that_were_known_when_it_began(steps, horizon, start):
    times = np.cumsum(steps)
    ends = times + horizon
    edges = time_blocks(np.ones(len(times)) * 20, times, start)
    for low, rows in zip(edges[:-1], matured_rows(edges, times, ends), strict=True):
        begun = times[low - start]
        recent = rows[rows >= start] - start
        assert set(range(start)) <= set(rows.tolist())
        assert (ends[recent] <= begun).all()
        # And from all of them.
        assert len(recent) == (ends[: low - start] <= begun).sum()


@given(st.integers(2, 60), st.integers(0, 5), st.booleans())
def test_random_folds_deal_every_row_once_and_keep_a_lead_together(n, seed, grouped):
    y = (np.arange(n) % 3 == 0).astype(float)
    groups = np.arange(n) // 4 if grouped else None
    order, edges = random_folds(y, groups, seed)
    assert sorted(order.tolist()) == list(range(n))
    assert (edges[0], edges[-1]) == (0, n)
    folds = [order[low:high] for low, high in pairwise(edges)]
    if grouped:
        homes = [set(groups[fold].tolist()) for fold in folds]
        assert sum(len(home) for home in homes) == len(set(groups.tolist()))
    else:
        shares = [y[fold].sum() for fold in folds]
        assert max(shares) - min(shares) <= 1


def test_blocks_that_learn_from_the_same_rows_share_one_fit():
    alike = tuple(np.arange(400) for _ in range(2))
    assert len(list(searched(training=alike, n=900).fits())) == 1
    assert len(list(searched().fits())) == 2
    ((rows, block),) = searched(training=alike, n=900).fits()
    assert len(rows) == 400
    assert block.tolist() == list(range(450, 900))


def test_newer_rows_weigh_more_only_where_rows_are_in_order():
    assert {trial.half_life for trial in searched().run().trials} == {None, 0.2}
    assert {trial.half_life for trial in searched(drifting=False).run().trials} == {None}


def judged(losses, weight: float = 0.0, booster: BoosterSettings = DEFAULT_SETTINGS) -> Judged:
    return Judged(Trial(10.0, None, 40, weight, float(np.mean(losses)), booster), np.zeros(250), losses)


def test_what_is_not_clearly_better_is_not_chosen_unless_nothing_drifts():
    random = np.random.default_rng(1)
    ridge = np.full(250, 0.5)
    unsure = ridge - 0.01 + random.normal(0.0, 1.0, 250)
    unsure += 0.49 - unsure.mean()
    sure = ridge - 0.01
    for losses, chosen in ((unsure, 0.0), (sure, 1.0)):
        blends = [judged(ridge), judged(losses, 1.0)]
        assert searched().share_choice(blends).trial.weight == chosen
        assert searched(drifting=False).share_choice(blends).trial.weight == 1.0
        other = [judged(ridge), judged(losses, 1.0, SIZES[1])]
        expected = SIZES[1] if chosen else DEFAULT_SETTINGS
        assert searched()._booster_choice(other).trial.booster == expected
        assert searched(drifting=False)._booster_choice(other).trial.booster == SIZES[1]


def test_the_error_of_a_gain_is_taken_over_stretches_of_time():
    # A gain that comes and goes: certain row by row, unsure as a forecast.
    gain = np.repeat([0.2, -0.1, 0.2, -0.1, 0.2, -0.1, 0.2, -0.1], 100)
    error = gain_error(gain, np.zeros(800), np.ones(800))
    assert error == pytest.approx(np.std([0.2, -0.1] * 4, ddof=1) / np.sqrt(8))
    assert error > 5 * gain.std() / np.sqrt(800)


def test_a_trial_names_its_settings_for_the_log_of_runs():
    ridge = Trial(10.0, 0.2, 0, 0.0, 0.3).parameters()
    assert ridge == {
        "ridge_penalty": 10.0,
        "recency_half_life": 0.2,
        "boosting_rounds": 0,
        "boosting_weight": 0.0,
    }
    blend = Trial(10.0, None, 40, 0.5, 0.3, SIZES[1]).parameters()
    assert blend["boosting_leaves"] == SIZES[1].leaves
    assert set(ridge) < set(blend)
