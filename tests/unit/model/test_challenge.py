"""Paired tests of a challenger: each figure against an independent working, and each check against a planted fault."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import spearmanr, ttest_rel
from sklearn.metrics import roc_auc_score

from predictive_scoring.model.challenge import FEWEST_ROWS, TOLERATED, WORSE_LEVEL, challenge, churn
from predictive_scoring.model.evaluation import evaluate
from predictive_scoring.model.paired import paired_auc, paired_mean
from predictive_scoring.model.rows import row_losses

N, CUTOFFS = 6000, 3
random = np.random.default_rng(20)
LEADS = np.repeat(np.arange(N // CUTOFFS), CUTOFFS)
SEEN, HIDDEN = random.normal(size=(2, N))
Z = -2.0 + SEEN + HIDDEN
TRUE = expit(Z)
Y = (random.random(N) < TRUE).astype(float)
# What is known of a lead when only SEEN is: the mean over HIDDEN, nearly.
PARTLY = expit((-2.0 + SEEN) / math.sqrt(1 + 0.346))
INDUSTRY = np.array(["bank", "shop", "farm"], dtype=object)[LEADS % 3]


def test_a_challenger_that_knows_more_has_earned_the_place():
    found = challenge(Y, TRUE, PARTLY, leads=LEADS, segments={"industry": INDUSTRY})
    assert found.earned
    assert [check.name for check in found.checks] == ["log_loss", "auc", "calibration", "segments"]
    assert (found.rows, found.leads, found.conversions) == (N, N // CUTOFFS, int(Y.sum()))
    back = challenge(Y, PARTLY, TRUE, leads=LEADS, segments={"industry": INDUSTRY})
    assert not back.earned
    assert back.log_loss.difference == pytest.approx(-found.log_loss.difference)
    assert back.auc.difference == pytest.approx(-found.auc.difference)


def test_equal_models_leave_the_champion_where_it_is():
    found = challenge(Y, PARTLY, PARTLY, leads=LEADS, segments={"industry": INDUSTRY})
    assert not found.earned
    assert [check.passed for check in found.checks] == [False, True, True, True]
    assert "nothing would be gained" in found.checks[0].sentence
    assert found.churn.spearman == pytest.approx(1.0)
    assert found.churn.kept == 1.0


def test_figures_are_those_of_evaluate_and_go_into_a_document():
    found = challenge(Y, TRUE, PARTLY, leads=LEADS, segments={"industry": INDUSTRY})
    for p, name in ((TRUE, "challenger"), (PARTLY, "champion")):
        metrics = evaluate(Y, p)
        for figure, wanted in (
            (found.log_loss, metrics.log_loss),
            (found.auc, metrics.auc),
            (found.ece, metrics.ece),
        ):
            assert getattr(figure, name) == pytest.approx(wanted, abs=1e-12)
        assert getattr(found.in_the_large, name) == pytest.approx(abs(p.mean() - Y.mean()), abs=1e-12)
    document = json.loads(json.dumps(found.to_document(), allow_nan=False))
    assert document["earned"] is True
    assert document["log_loss"]["difference"] == pytest.approx(found.log_loss.difference)
    assert {part["level"] for part in document["segments"]} == {"bank", "shop", "farm"}
    assert json.dumps(challenge([0, 0], [0.1, 0.2], [0.2, 0.2]).to_document(), allow_nan=False)


# The errors -------------------------------------------------------------------------------------------------


def test_one_row_a_lead_is_the_paired_t_test():
    losses = row_losses(Y, TRUE), row_losses(Y, PARTLY)
    found = paired_mean(*losses, np.arange(N), np.ones(N))
    wanted = ttest_rel(*losses, alternative="less")
    assert found.p_lower == pytest.approx(wanted.pvalue, rel=1e-6)
    low, high = ttest_rel(*losses).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_copies_of_a_leads_row_add_no_certainty():
    code, parts = np.arange(2000), (Y[:2000], TRUE[:2000], PARTLY[:2000])
    one = challenge(*parts, leads=code)
    tenfold = challenge(*(np.repeat(part, 10) for part in parts), leads=np.repeat(code, 10))
    for name in ("log_loss", "auc", "ece", "in_the_large"):
        first, second = getattr(one, name), getattr(tenfold, name)
        assert second.low == pytest.approx(first.low, abs=1e-3), name
        assert second.high == pytest.approx(first.high, abs=1e-3), name
    unaware = challenge(*(np.repeat(part, 10) for part in parts))
    assert unaware.log_loss.high - unaware.log_loss.low < 0.5 * (one.log_loss.high - one.log_loss.low)


def test_the_error_of_auc_is_delongs():
    positive, negative = np.flatnonzero(Y == 1)[:300], np.flatnonzero(Y == 0)[:900]
    rows = np.concatenate([positive, negative])
    y, both = Y[rows], (TRUE[rows], PARTLY[rows])
    found = paired_auc(y, *both, np.arange(len(rows)), np.ones(len(rows)))
    placed = []
    for p in both:
        wins = (p[:300, None] > p[None, 300:]) + 0.5 * (p[:300, None] == p[None, 300:])
        placed.append((wins.mean(axis=1), wins.mean(axis=0)))
    over_positive, over_negative = (placed[0][side] - placed[1][side] for side in (0, 1))
    error = math.sqrt(over_positive.var(ddof=1) / 300 + over_negative.var(ddof=1) / 900)
    assert found.difference == pytest.approx(roc_auc_score(y, both[0]) - roc_auc_score(y, both[1]))
    assert (found.high - found.low) / 2 == pytest.approx(1.645 * error, rel=0.01)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_whole_weights_are_repeated_rows_and_order_does_not_matter(seed, coarse):
    drawn = np.random.default_rng(seed)
    n = 60
    y, p, q = (drawn.random(n) < 0.4).astype(float), drawn.random(n), drawn.random(n)
    if coarse:
        p, q = np.round(p, 1), np.round(q, 1)
    leads, weight = drawn.integers(0, 20, n), drawn.integers(1, 4, n)
    weighed = challenge(y, p, q, leads=leads, weight=weight)
    repeated = challenge(*(np.repeat(part, weight) for part in (y, p, q)), leads=np.repeat(leads, weight))
    order = drawn.permutation(n)
    shuffled = challenge(y[order], p[order], q[order], leads=leads[order], weight=weight[order])
    for name in ("log_loss", "auc"):
        first = getattr(weighed, name).to_document()
        for other in (repeated, shuffled):
            for key, value in getattr(other, name).to_document().items():
                assert first[key] == pytest.approx(value, abs=1e-9), (name, key)
    assert shuffled.churn.kept == weighed.churn.kept


# Planted faults ---------------------------------------------------------------------------------------------


def test_a_challenger_that_is_out_in_its_level_fails_calibration():
    better_but_high = expit(Z + 0.4)
    found = challenge(Y, better_but_high, PARTLY, leads=LEADS)
    assert {check.name: check.passed for check in found.checks}["calibration"] is False
    assert not found.earned
    assert found.in_the_large.difference > TOLERATED * Y.mean()


def test_a_challenger_that_ranks_worse_fails_though_its_loss_is_lower():
    # The champion ranks well but is far too sure; the challenger knows less and says so.
    found = challenge(Y, PARTLY, expit(4 * Z), leads=LEADS)
    passed = {check.name: check.passed for check in found.checks}
    assert passed["log_loss"]
    assert not passed["auc"]
    assert not found.earned


def test_one_segment_that_is_clearly_worse_is_enough_to_be_refused():
    spoilt = np.where(INDUSTRY == "farm", expit(-2.0 - SEEN), TRUE)
    found = challenge(Y, spoilt, expit(-2.0 + 0.0 * SEEN), leads=LEADS, segments={"industry": INDUSTRY})
    assert found.segments[0].level == "farm"
    assert [part.level for part in found.segments if part.worse] == ["farm"]
    assert "industry = farm" in found.checks[3].sentence
    assert not found.earned


def test_p_values_of_segments_are_holms():
    many = {f"column_{k}": np.array(list("abcdef"), dtype=object)[(LEADS // 6**k) % 6] for k in range(2)}
    found = challenge(Y, PARTLY, TRUE, leads=LEADS, segments=many).segments
    raw = np.array([part.log_loss.p_higher for part in found])
    assert len(found) == 12
    assert (np.diff(raw) >= 0).all()
    wanted = np.minimum(1, np.maximum.accumulate(raw * np.arange(12, 0, -1)))
    assert [part.p_holm for part in found] == pytest.approx(list(wanted))
    assert all(part.worse == (part.p_holm <= WORSE_LEVEL) for part in found if part.log_loss.difference > 0)


def test_thin_segments_and_missing_levels_are_not_tested():
    levels = np.full(N, None, dtype=object)
    levels[: FEWEST_ROWS - 1] = "thin"
    levels[FEWEST_ROWS : 2 * FEWEST_ROWS] = "just enough"
    dull = np.where(Y == 0, "never converts", None)
    nan = np.where(LEADS % 2 == 0, "even", None)
    nan[LEADS % 2 == 1] = np.nan
    found = challenge(Y, TRUE, PARTLY, leads=LEADS, segments={"a": levels, "b": dull, "c": nan})
    assert {(part.column, part.level) for part in found.segments} == {("a", "just enough"), ("c", "even")}
    none = challenge(Y, TRUE, PARTLY, leads=LEADS, segments={"a": np.full(N, None)})
    assert none.segments == ()
    assert none.checks[3].passed


# Churn and refusals -----------------------------------------------------------------------------------------


def test_churn_is_rank_correlation_and_the_share_of_the_top_that_stays():
    found = churn(TRUE, PARTLY, 600)
    assert found.spearman == pytest.approx(spearmanr(TRUE, PARTLY).statistic)
    tops = [set(np.argsort(-p)[:600]) for p in (TRUE, PARTLY)]
    assert found.kept == pytest.approx(len(tops[0] & tops[1]) / 600)
    assert churn(-PARTLY, PARTLY, 600).kept == 0.0
    constant = churn(np.full(10, 0.3), np.arange(10) / 10, 3)
    assert math.isnan(constant.spearman)
    assert constant.to_document()["spearman"] is None


def test_the_same_seed_gives_the_same_answer():
    assert challenge(Y, TRUE, PARTLY, leads=LEADS) == challenge(Y, TRUE, PARTLY, leads=LEADS)


@pytest.mark.parametrize(
    "more",
    [
        {"leads": [1, 2]},
        {"leads": [None] * N},
        {"weight": -np.ones(N)},
        {"weight": np.zeros(N)},
        {"weight": [1.0]},
        {"segments": {"short": ["a"]}},
    ],
    ids=["few leads", "no leads", "negative", "nothing", "short", "short segment"],
)
def test_impossible_input_is_refused(more):
    with pytest.raises(ValueError, match=r"lead|weight|segment"):
        challenge(Y, TRUE, PARTLY, **more)


def test_a_single_lead_shows_nothing():
    found = challenge(Y[:3], TRUE[:3], PARTLY[:3], leads=[7, 7, 7])
    assert not found.earned
    assert found.log_loss.to_document()["low"] is None
