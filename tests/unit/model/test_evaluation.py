import json
import math

import numpy as np
import pytest
from scipy.special import expit
from sklearn import metrics as sk

from predictive_scoring.model.evaluation import calibration_table, evaluate, gain_table, judge

random = np.random.default_rng(0)
Z = random.normal(-2.0, 1.0, 3000)
P = expit(Z)
Y = (random.random(3000) < P).astype(float)
RATE = float(Y.mean())


def test_metrics_agree_with_scikit_learn():
    m = evaluate(Y, P)
    assert m.auc == pytest.approx(sk.roc_auc_score(Y, P))
    assert m.pr_auc == pytest.approx(sk.average_precision_score(Y, P))
    assert m.log_loss == pytest.approx(sk.log_loss(Y, P))
    assert m.brier == pytest.approx(sk.brier_score_loss(Y, P))
    assert (m.n, m.conversions, m.base_rate) == (3000, int(Y.sum()), RATE)
    top = np.argsort(-P)[:300]
    assert m.capture_at_10 == pytest.approx(Y[top].sum() / Y.sum())
    assert m.lift_at_10 == pytest.approx(Y[top].mean() / RATE)
    json.dumps(m.to_document(), allow_nan=False)


def test_calibration_error_is_near_zero_for_the_truth_and_seen_when_it_is_not():
    assert evaluate(Y, P).ece < 0.02
    assert evaluate(Y, np.clip(P + 0.1, 0, 1)).ece == pytest.approx(0.1, abs=0.02)
    assert evaluate(Y, np.full(3000, RATE)).ece == pytest.approx(0.0, abs=1e-12)


def test_nothing_depends_on_the_order_of_rows():
    coarse = np.round(P, 1)
    order = random.permutation(3000)
    first, second = evaluate(Y, coarse), evaluate(Y[order], coarse[order])
    for name, value in first.to_document().items():
        assert second.to_document()[name] == pytest.approx(value, abs=1e-12)


def test_a_constant_captures_its_share():
    m = evaluate(Y, np.full(3000, 0.3))
    assert m.capture_at_10 == pytest.approx(0.1)
    assert m.lift_at_10 == pytest.approx(1.0)


def test_one_class_leaves_ranking_metrics_undefined():
    m = evaluate([0, 0], [0.1, 0.2])
    assert math.isnan(m.auc)
    assert m.to_document()["auc"] is None


def test_tables():
    table = calibration_table(Y, P)
    assert table["leads"].tolist() == [200] * 15
    assert table["predicted"].is_monotonic_increasing
    assert ((table["low"] <= table["observed"]) & (table["observed"] <= table["high"])).all()
    gain = gain_table(Y, P)
    assert gain["contacted"].tolist() == pytest.approx([k / 20 for k in range(1, 21)])
    assert gain["captured"].is_monotonic_increasing
    assert gain["captured"].iloc[-1] == pytest.approx(1.0)
    assert calibration_table([0, 1], [0.5, 0.5])["leads"].tolist() == [2]


def test_a_good_model_is_validated_with_a_sentence_for_each_check():
    verdict = judge(Y, P, known_base_rate=RATE)
    assert verdict.validated
    assert verdict.name == "validated"
    assert [check.name for check in verdict.checks] == ["base_rate", "ranking"]
    assert verdict.challenge is None


def test_worse_than_the_known_rate_is_rejected():
    verdict = judge(Y, np.clip(P * 5, 0, 0.999), known_base_rate=RATE)
    assert verdict.name == "rejected"
    assert "not better" in verdict.reasons[0]


def test_the_base_rate_itself_and_a_random_order_are_rejected():
    assert not judge(Y, np.full(3000, RATE), known_base_rate=RATE).validated
    assert "not above 0.5" in judge(Y, 1 - P, known_base_rate=RATE).reasons[1]


def test_a_champion_stays_unless_the_model_is_shown_to_be_better():
    blurred = expit(Z + random.normal(0, 1.0, 3000))
    verdict = judge(Y, blurred, known_base_rate=RATE, champion_p=P)
    assert not verdict.validated
    assert "higher than the champion's" in verdict.reasons[2]
    assert not judge(Y, P, known_base_rate=RATE, champion_p=P).validated
    assert not judge(Y, expit(Z + random.normal(0, 0.01, 3000)), known_base_rate=RATE, champion_p=P).validated
    earned = judge(Y, P, known_base_rate=RATE, champion_p=blurred)
    assert earned.validated
    assert earned.challenge is not None
    assert len(earned.reasons) == 2 + len(earned.challenge.checks)


def test_one_class_cannot_be_validated():
    assert not judge([0, 0, 0], [0.01, 0.01, 0.01], known_base_rate=0.5).validated


@pytest.mark.parametrize(
    ("y", "p"), [([], []), ([0, 1], [0.5]), ([0, 2], [0.5, 0.5]), ([0, 1], [0.5, np.nan])]
)
def test_refusals(y, p):
    with pytest.raises(ValueError, match=r"rows|outcomes|probabilities"):
        evaluate(y, p)


def test_the_known_rate_must_be_a_rate():
    with pytest.raises(ValueError, match="known_base_rate"):
        judge(Y, P, known_base_rate=0.0)
