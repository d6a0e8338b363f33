from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from predictive_scoring.errors import InvalidSetting, InvalidValue
from predictive_scoring.insight.stage import STATES, StageParameters, filter_stages, most_likely

DEFAULT = StageParameters()


def one(weeks):
    """Posterior of one lead with a list of (awareness, consideration, decision) counts per week."""
    return filter_stages(np.array([weeks]), np.array([len(weeks)]))[0]


def simulate(rng, n, weeks, spread):
    """A world with other parameters than the product's: rates and transitions off by `spread`, own activity levels."""
    rates = np.array(DEFAULT.rates) * np.exp(rng.normal(0, spread, (4, 3)))
    transitions = np.array(DEFAULT.transitions) * np.exp(rng.normal(0, spread, (4, 4)))
    transitions /= transitions.sum(axis=1, keepdims=True)
    activity = np.exp(rng.normal(0, 0.5, n))
    state = rng.choice(4, size=n, p=DEFAULT.initial)
    counts = np.zeros((n, weeks, 3), dtype=int)
    for week in range(weeks):
        if week:
            state = np.minimum((rng.random(n)[:, None] > transitions.cumsum(axis=1)[state]).sum(axis=1), 3)
        counts[:, week] = rng.poisson(rates[state] * activity[:, None])
    return counts, state


def plainly(weeks, parameters=DEFAULT):
    """The recursion of the docstring for one lead, in plain Python."""
    alpha, happened, expected = None, 0.0, 0.0
    for n in weeks:
        if alpha is None:
            prior = list(parameters.initial)
        else:
            prior = [sum(alpha[r] * parameters.transitions[r][s] for r in range(4)) for s in range(4)]
        g = min(max((happened + 3) / (expected + 3), 0.3), 3)
        joint = []
        for s in range(4):
            likelihood = 1.0
            for j in range(3):
                rate = parameters.rates[s][j] * g
                likelihood *= (
                    np.exp(-rate) * rate ** n[j] / float(np.prod(np.arange(1, n[j] + 1), dtype=float))
                )
            joint.append(prior[s] * likelihood)
        alpha = [value / sum(joint) for value in joint]
        happened += sum(n)
        expected += sum(alpha[s] * sum(parameters.rates[s]) for s in range(4))
    return alpha or list(parameters.initial)


def test_equals_the_recursion_written_plainly():
    rng = np.random.default_rng(1)
    counts, _ = simulate(rng, 100, 14, 0.3)
    observed = rng.integers(0, 15, 100)
    found = filter_stages(counts, observed)
    for row in range(100):
        weeks = [tuple(map(int, week)) for week in counts[row, 14 - observed[row] :]]
        assert found[row] == pytest.approx(plainly(weeks), abs=1e-10)


def test_each_row_is_bit_equal_in_any_batch():
    rng = np.random.default_rng(2)
    counts, _ = simulate(rng, 301, 26, 0.3)
    observed = rng.integers(0, 40, 301)
    whole = filter_stages(counts, observed)
    for row in range(301):
        assert np.array_equal(filter_stages(counts[[row]], observed[[row]])[0], whole[row])
    for size in (2, 3, 5, 8, 17):
        part = rng.choice(301, size, replace=False)
        assert np.array_equal(filter_stages(counts[part], observed[part]), whole[part])
    # Neither memory order nor integer width of the caller's array matters.
    assert np.array_equal(filter_stages(np.asfortranarray(counts), observed), whole)
    assert np.array_equal(filter_stages(counts.astype(np.int16), observed), whole)


def test_weeks_before_the_lead_existed_are_not_silence():
    weeks = np.array([[[0, 0, 0]] * 10 + [[2, 0, 0]] * 2])
    young, old = filter_stages(weeks, np.array([2]))[0], filter_stages(weeks, np.array([12]))[0]
    assert not np.array_equal(young, old)
    assert np.array_equal(young, filter_stages(weeks[:, 10:], np.array([2]))[0])
    # What stands in unobserved columns is not read.
    noise = weeks.copy()
    noise[:, :10] = 99
    assert np.array_equal(filter_stages(noise, np.array([2]))[0], young)
    assert np.array_equal(filter_stages(weeks, np.array([0]))[0], np.array(DEFAULT.initial))
    assert np.array_equal(filter_stages(weeks, np.array([500]))[0], old)


def test_silence_moves_towards_dormant():
    start = [(2, 1, 0)] * 4
    dormant = [one(start + [(0, 0, 0)] * silent)[0] for silent in range(30)]
    # Once sure, it stays sure; a long silence also says that the lead is a quiet one, which costs half a point.
    assert all(later > earlier for earlier, later in pairwise(dormant[:7]))
    assert min(dormant[4:]) > 0.95
    assert all(one(start + [(0, 0, 0)] * silent)[3] < 0.01 for silent in range(4, 30))


@pytest.mark.parametrize("before", [[(0, 0, 0)] * 6, [(1, 0, 0)] * 6, [(2, 1, 0)] * 6])
def test_pricing_and_demo_activity_moves_towards_decision(before):
    chances = [one([*before, (1, 1, asked)])[3] for asked in range(5)]
    assert all(later > earlier for earlier, later in pairwise(chances))
    assert one([*before, (1, 1, 2), (1, 1, 3)])[3] > 0.8


def test_reads_the_obvious_histories():
    found = [one([(0, 0, 0)] * 8), one([(1, 0, 0)] * 8), one([(2, 1, 0)] * 8), one([(1, 1, 2)] * 8)]
    assert most_likely(np.array(found)) == STATES


def test_beats_simple_rules_on_worlds_with_other_parameters_and_is_calibrated():
    gaps, gains = [], []
    for seed in range(11, 19):
        rng = np.random.default_rng(seed)
        counts, state = simulate(rng, 2000, 20, 0.25)
        posterior = filter_stages(counts, np.full(2000, 20))
        right = posterior.argmax(axis=1) == state

        # "Highest stage seen in the last so many weeks": ever, and with the window tuned to this very world.
        rules = []
        for window in (20, 1, 2, 3, 4, 5, 6, 7, 8):
            seen = counts[:, -window:].sum(axis=1) > 0
            highest = np.where(seen[:, 2], 3, np.where(seen[:, 1], 2, np.where(seen[:, 0], 1, 0)))
            rules.append((highest == state).mean())
        assert right.mean() >= rules[0] + 0.3, seed
        gains.append(right.mean() - max(rules))

        # What it is p sure of happens in about a share p of cases.
        sure = posterior.max(axis=1)
        bins = np.minimum((sure * 10).astype(int), 9)
        gaps.append(
            sum(abs(sure[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in set(bins))
        )
    assert np.mean(gains) >= 0.03, gains
    assert np.mean(gaps) <= 0.05, gaps


def test_rows_sum_to_one_even_for_absurd_counts():
    counts = np.array([[[10**9, 0, 0]], [[0, 10**6, 10**12]], [[0, 0, 0]]])
    posterior = filter_stages(counts, np.ones(3, dtype=int))
    assert np.isfinite(posterior).all()
    assert posterior.sum(axis=1) == pytest.approx(1, abs=1e-12)


def test_a_forbidden_transition_stays_forbidden():
    rows = [list(row) for row in DEFAULT.transitions]
    rows[0] = [1.0, 0.0, 0.0, 0.0]
    parameters = StageParameters(transitions=rows, initial=(1, 0, 0, 0))
    assert filter_stages(np.array([[[5, 5, 5]] * 3]), np.array([3]), parameters)[0].tolist() == [1, 0, 0, 0]


def test_empty_batches():
    assert filter_stages(np.zeros((0, 5, 3), dtype=int), np.zeros(0, dtype=int)).shape == (0, 4)
    assert (
        filter_stages(np.zeros((2, 0, 3), dtype=int), np.array([3, 0])).tolist()
        == [list(DEFAULT.initial)] * 2
    )
    assert most_likely(np.zeros((0, 4))) == ()


def test_refuses_what_makes_no_sense():
    with pytest.raises(InvalidSetting, match="shape"):
        filter_stages(np.zeros((2, 5, 2), dtype=int), np.zeros(2, dtype=int))
    with pytest.raises(InvalidSetting, match="shape"):
        filter_stages(np.zeros((2, 5, 3), dtype=int), np.zeros(3, dtype=int))
    with pytest.raises(InvalidValue, match="row 1"):
        filter_stages(np.array([[[0, 0, 0]], [[0, -1, 0]]]), np.array([1, 1]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"initial": (0.5, 0.5, 0.5, 0.5)}, "initial must sum to 1"),
        ({"transitions": [[1, 0, 0, 0]] * 3 + [[0.5, 0, 0, 0]]}, "transitions from decision must sum to 1"),
        ({"rates": [[1, 1, 1]] * 3 + [[0.5, 1, 1]]}, "awareness rate of dormant"),
        ({"rates": [[0, 1, 1]] * 4}, "greater than 0"),
        ({"speed": 1}, "Extra inputs"),
    ],
)
def test_parameters_are_checked(change, said):
    with pytest.raises(ValidationError, match=said):
        StageParameters(**change)


def test_parameters_travel_as_json():
    assert StageParameters.model_validate_json(DEFAULT.model_dump_json()) == DEFAULT
