"""Laws of probabilities: order is kept, ranges contain the probability, calibration never trains on its own margins."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from predictive_scoring.model.calibrated import CalibratedModel
from predictive_scoring.model.calibration import PlattCalibration, fit_platt
from predictive_scoring.model.columns import learn_columns
from predictive_scoring.model.evaluation import evaluate, judge
from predictive_scoring.model.fitting import fit_calibrated

RANDOM = np.random.default_rng(11)
MARGIN = RANDOM.normal(-2.0, 1.0, 800)
FITTED = fit_platt(MARGIN, (RANDOM.random(800) < expit(MARGIN)).astype(float), seed=1, replicates=60)
pairs = st.lists(st.tuples(st.floats(0.05, 5.0), st.floats(-5.0, 5.0)), max_size=8).map(tuple)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), st.floats(0.05, 5.0), st.floats(-5.0, 5.0), pairs
)
def test_the_interval_contains_the_probability(margins, slope, intercept, replicates):
    calibration = PlattCalibration(slope, intercept, replicates)
    p = calibration.probability(margins)
    low, high = calibration.interval(margins)
    assert (low <= p).all()
    assert (p <= high).all()
    assert ((low > 0.0) & (high < 1.0)).all()


@given(st.floats(-50.0, 50.0), st.floats(-50.0, 50.0))
def test_order_is_never_reversed(a, b):
    low, high = sorted((a, b))
    assert FITTED.probability([low])[0] <= FITTED.probability([high])[0]


@settings(deadline=None, max_examples=20)
@given(st.floats(-3.0, 3.0), st.floats(0.3, 3.0))
def test_undoing_a_shift_and_a_stretch_of_the_margin(shift, stretch):
    random = np.random.default_rng(0)
    z = random.normal(-1.0, 1.0, 20_000)
    y = (random.random(20_000) < expit(z)).astype(float)
    fitted = fit_platt(z * stretch + shift, y, seed=1, replicates=0)
    assert np.abs(fitted.probability(z * stretch + shift) - expit(z)).max() < 0.12
    assert fitted.probability(z * stretch + shift).mean() == pytest.approx(y.mean(), abs=0.01)


def test_the_whole_recipe_is_calibrated_on_later_leads():
    n = 9000
    frame = pd.DataFrame({"a": RANDOM.gamma(0.5, 4.0, n), "b": RANDOM.normal(0, 1, n)})
    truth = expit(-3.2 + 0.8 * np.log1p(frame["a"]) + 0.7 * frame["b"]).to_numpy()
    y = (RANDOM.random(n) < truth).astype(float)
    columns = learn_columns(frame[:6000], {"a": "number", "b": "number"})
    model, selection = fit_calibrated(
        frame[:4000], y[:4000], frame[4000:6000], y[4000:6000], columns, seed=1, replicates=30
    )
    p = model.probability(frame[6000:])
    assert evaluate(y[6000:], p).ece < 0.03
    assert judge(y[6000:], p, known_base_rate=float(y[:6000].mean())).validated
    true, told = truth[6000:], p
    excess = float(np.mean(true * np.log(true / told) + (1 - true) * np.log((1 - true) / (1 - told))))
    assert 0.0 <= excess < 0.004
    copy = CalibratedModel.from_document(model.to_document(), model.booster_text)
    assert np.array_equal(copy.probability(frame), model.probability(frame))
    assert model.calibration.slope != 1.0
    assert selection.recent_margin.shape == (2000,)
