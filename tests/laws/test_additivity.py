"""Law: base + contributions == output, whatever the row holds."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from predictive_scoring.model.booster import fit_booster
from predictive_scoring.model.calibrated import CalibratedModel, calibrated_contributions
from predictive_scoring.model.calibration import LOGIT_LIMIT, PlattCalibration
from predictive_scoring.model.columns import encode, learn_columns
from predictive_scoring.model.linear import fit_linear
from predictive_scoring.model.propensity import PropensityModel


def _model(weight: float) -> PropensityModel:
    random = np.random.default_rng(7)
    n = 1500
    frame = pd.DataFrame(
        {
            "free": np.where(random.random(n) < 0.2, np.nan, random.normal(0, 1, n)),
            "more": random.gamma(0.5, 10.0, n),
            "less": np.where(random.random(n) < 0.2, np.nan, random.gamma(1.0, 30.0, n)),
            "kind": random.choice(np.array(["a", "b", "c", "d", "e", "f", None], dtype=object), n),
        }
    )
    z = (
        frame["free"].fillna(0)
        + 0.05 * frame["more"]
        - 0.02 * frame["less"].fillna(90)
        + (frame["kind"] == "b")
    )
    y = (random.random(n) < expit(z - 1)).astype(float)
    kinds = {"free": "number", "more": "number", "less": "number", "kind": "category"}
    columns = learn_columns(frame, kinds, directions={"more": 1, "less": -1})
    encoded = encode(frame, columns)
    text = fit_booster(encoded, y, columns, rounds=40, seed=1).model_to_string()
    return PropensityModel(columns, fit_linear(encoded, y, columns, penalty=10.0), text, weight)


MODELS = {weight: _model(weight) for weight in (0.0, 0.5, 1.0)}

number = st.one_of(
    st.none(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 1e308, -1e308, 5e-324, 1e-40]),
)
category = st.one_of(st.none(), st.sampled_from(["a", "b", "f", "never seen", ""]), st.text(max_size=5))
row = st.fixed_dictionaries({"free": number, "more": number, "less": number, "kind": category})
frames = st.lists(row, min_size=1, max_size=5).map(
    lambda rows: pd.DataFrame(rows, columns=["free", "more", "less", "kind"]).astype({"kind": object})
)


@pytest.mark.parametrize("weight", list(MODELS))
@settings(deadline=None, max_examples=150)
@given(frame=frames)
def test_base_plus_contributions_is_the_margin(weight, frame):
    model = MODELS[weight]
    margin = model.margin(frame)
    base, phi = model.contributions(frame)
    assert np.isfinite(margin).all()
    assert np.isfinite(phi).all()
    assert np.abs(base + phi.sum(axis=1) - margin).max() <= 1e-12 * (1 + np.abs(margin).max())


@settings(deadline=None, max_examples=150)
@given(frame=frames, slope=st.floats(0.05, 30.0), intercept=st.floats(-40.0, 40.0))
def test_base_contributions_and_limit_are_the_calibrated_logit(frame, slope, intercept):
    calibration = PlattCalibration(slope, intercept)
    base, phi, limit, z = calibrated_contributions(MODELS[0.5], calibration, frame)
    assert np.abs(base + phi.sum(axis=1) + limit - z).max() <= 1e-9
    assert np.abs(z).max() <= LOGIT_LIMIT
    assert np.abs(logit(expit(z)) - z).max() <= 1e-9
    inside = np.abs(z) < LOGIT_LIMIT
    assert (limit[inside] == 0.0).all()
    assert np.abs(CalibratedModel(MODELS[0.5], calibration).logit(frame) - z).max() <= 1e-9


@settings(deadline=None, max_examples=100)
@given(frame=frames, step=st.floats(0.0, 1e6))
def test_declared_directions_hold_on_any_row(frame, step):
    more = frame.assign(more=pd.to_numeric(frame["more"]).astype(float) + step)
    less = frame.assign(less=pd.to_numeric(frame["less"]).astype(float) + step)
    before = MODELS[0.5].margin(frame)
    assert (MODELS[0.5].margin(more) >= before - 1e-12).all()
    assert (MODELS[0.5].margin(less) <= before + 1e-12).all()
