"""What working the best leads first brought: exact without chance, in proportion among equals, with an honest band."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictive_scoring.model.worked import worked_table


def test_a_perfect_order_finds_every_conversion_first():
    y = np.array([1] * 10 + [0] * 30)
    table = worked_table(y, np.linspace(0.9, 0.1, 40), steps=4, seed=1)
    assert table["worked"].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert table["value"].tolist() == pytest.approx([1.0, 0.5, 1 / 3, 0.25])


def test_money_is_conversions_at_their_worth_less_the_cost_of_every_row():
    y = np.array([1] * 10 + [0] * 30)
    table = worked_table(y, np.linspace(0.9, 0.1, 40), win=100.0, cost=7.0, steps=4, seed=1)
    assert table["value"].tolist() == pytest.approx([1000 - 7 * n for n in (10, 20, 30, 40)])


@given(st.integers(1, 300), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_the_band_holds_the_value_and_equals_share_alike(n, seed):
    draw = np.random.default_rng(seed)
    y, p = draw.integers(0, 2, n), draw.choice([0.1, 0.2, 0.9], n)
    table = worked_table(y, p, seed=3, replicates=20)
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    order = draw.permutation(n)
    again = worked_table(y[order], p[order], seed=3, replicates=20)
    assert again["value"].tolist() == pytest.approx(table["value"].tolist())
    assert table["value"].iloc[-1] == pytest.approx(y.mean())


def test_the_band_covers_the_rate_of_the_population():
    """Twice as many rows as leads: the band must not take two rows of one lead for two witnesses."""
    truth, covered = 0.3, []
    for seed in range(120):
        draw = np.random.default_rng(seed)
        y = np.repeat(draw.random(150) < truth, 2).astype(int)
        leads = np.repeat(np.arange(150), 2)
        table = worked_table(y, draw.random(300), leads=leads, steps=1, replicates=100, seed=seed)
        covered.append(table["low"].iloc[0] <= truth <= table["high"].iloc[0])
    assert 0.81 <= np.mean(covered) <= 0.98
