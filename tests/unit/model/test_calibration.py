import json

import numpy as np
import pytest
from scipy.special import expit

from predictive_scoring.errors import TrainingImpossible
from predictive_scoring.model.calibration import LOGIT_LIMIT, PlattCalibration, fit_platt


def sample(n: int, slope: float, intercept: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    margin = random.normal(-1.0, 1.5, n)
    return margin, (random.random(n) < expit(slope * margin + intercept)).astype(float)


def test_a_distorted_margin_is_put_right():
    margin, y = sample(40_000, 0.6, -0.8)
    fitted = fit_platt(margin, y, seed=1, replicates=0)
    assert fitted.slope == pytest.approx(0.6, abs=0.04)
    assert fitted.intercept == pytest.approx(-0.8, abs=0.06)
    assert fitted.probability(margin).mean() == pytest.approx(y.mean(), abs=1e-3)


def test_with_few_conversions_the_margin_is_trusted():
    margin, y = sample(60, 1.0, 0.0, seed=3)
    fitted = fit_platt(margin, y, seed=1, replicates=0)
    assert 0.6 < fitted.slope < 1.4


def test_an_upside_down_margin_gets_flat_and_never_flips():
    margin, y = sample(20_000, -1.0, 0.0)
    fitted = fit_platt(margin, y, seed=1, replicates=5)
    assert 0.0 < fitted.slope < 0.1
    assert all(slope > 0 for slope, _ in fitted.replicates)
    assert fitted.probability(margin).mean() == pytest.approx(y.mean(), abs=0.02)


def test_intervals_shrink_with_rows_and_widen_when_rows_repeat_a_lead():
    margin, y = sample(4000, 1.0, -1.0)
    at = np.array([-1.0])

    def width(calibration: PlattCalibration) -> float:
        low, high = calibration.interval(at)
        return float(high[0] - low[0])

    wide = width(fit_platt(margin[:400], y[:400], seed=1, replicates=100))
    narrow = width(fit_platt(margin, y, seed=1, replicates=100))
    assert narrow < wide
    repeated = fit_platt(
        np.tile(margin[:400], 10), np.tile(y[:400], 10), groups=np.tile(np.arange(400), 10), seed=1
    )
    assert width(repeated) > 1.5 * narrow


def test_a_document_round_trip_is_bit_equal():
    margin, y = sample(500, 1.0, -1.0)
    fitted = fit_platt(margin, y, seed=1, replicates=20)
    copy = PlattCalibration.from_document(json.loads(json.dumps(fitted.to_document())))
    assert copy == fitted
    assert np.array_equal(copy.interval(margin)[0], fitted.interval(margin)[0])


def test_the_seed_decides_the_replicates():
    margin, y = sample(300, 1.0, -1.0)
    assert fit_platt(margin, y, seed=1, replicates=5) == fit_platt(margin, y, seed=1, replicates=5)
    assert fit_platt(margin, y, seed=1, replicates=5) != fit_platt(margin, y, seed=2, replicates=5)


def test_refusals():
    with pytest.raises(TrainingImpossible, match="same outcome"):
        fit_platt([0.0, 1.0], [1, 1], seed=1)
    with pytest.raises(TrainingImpossible, match="finite"):
        fit_platt([np.nan, 1.0], [0, 1], seed=1)
    with pytest.raises(ValueError, match="positive"):
        PlattCalibration(0.0, 1.0)


def test_logits_are_bounded():
    assert PlattCalibration(1.0, 0.0).logit([-1e9, 1e9]).tolist() == [-LOGIT_LIMIT, LOGIT_LIMIT]
