import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from predictive_scoring.errors import TrainingImpossible
from predictive_scoring.model.booster import booster_matrix, fit_booster
from predictive_scoring.model.columns import Column, encode, learn_columns
from predictive_scoring.model.folds import time_blocks
from predictive_scoring.model.linear import fit_linear
from predictive_scoring.model.propensity import PropensityModel
from predictive_scoring.model.search import Search
from predictive_scoring.model.selection import select_propensity

KINDS = {"visits": "number", "days": "number", "size": "number", "title": "category"}
DIRECTIONS = {"visits": 1, "days": -1}


def world(n: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "visits": random.negative_binomial(1, 0.3, n).astype(float),
            "days": np.where(random.random(n) < 0.3, np.nan, random.gamma(1.0, 30.0, n)),
            "size": random.normal(0.0, 1.0, n),
            "title": random.choice(np.array(["cto", "dev", "sales", None], dtype=object), n),
        }
    )
    z = (
        -2.0
        + 0.8 * np.log1p(frame["visits"])
        + 0.5 * frame["size"] * (frame["visits"] > 2)
        - 0.01 * frame["days"].fillna(150)
        + 0.7 * (frame["title"] == "cto")
    )
    return frame, (random.random(n) < expit(z)).astype(float)


@pytest.fixture(scope="module")
def rows() -> tuple[pd.DataFrame, np.ndarray, tuple[Column, ...]]:
    frame, y = world(2000)
    return frame, y, learn_columns(frame, KINDS, directions=DIRECTIONS)


@pytest.fixture(scope="module")
def blend(rows) -> PropensityModel:
    frame, y, columns = rows
    encoded = encode(frame, columns)
    text = fit_booster(encoded, y, columns, rounds=40, seed=1).model_to_string()
    return PropensityModel(columns, fit_linear(encoded, y, columns, penalty=10.0), text, 0.5)


def test_rare_levels_are_left_out_and_the_order_is_by_name():
    frame = pd.DataFrame({"c": ["b"] * 30 + ["a"] * 25 + ["rare"] * 3 + [None] * 5})
    (column,) = learn_columns(frame, {"c": "category"})
    assert column.vocabulary == ("a", "b")
    assert encode(pd.DataFrame({"c": ["a", "b", "rare", None]}), (column,))[:3, 0].tolist() == [0.0, 1.0, 2.0]
    assert np.isnan(encode(pd.DataFrame({"c": [None]}), (column,))[0, 0])
    assert learn_columns(frame, {"c": "category"}, max_levels=1)[0].vocabulary == ("b",)


def test_numbers_may_come_as_objects():
    column = Column("x", "number")
    frame = pd.DataFrame({"x": pd.Series([None, 1, 2.5, pd.NA, True], dtype=object)})
    assert np.array_equal(encode(frame, (column,))[:, 0], [np.nan, 1.0, 2.5, np.nan, 1.0], equal_nan=True)
    with pytest.raises(ValueError, match="'x' must hold numbers"):
        encode(pd.DataFrame({"x": ["many"]}), (column,))
    with pytest.raises(ValueError, match="lacks"):
        encode(pd.DataFrame({"y": [1.0]}), (column,))


def test_columns_refuse_nonsense():
    with pytest.raises(ValueError, match="kind"):
        Column("x", "text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="direction"):
        Column("x", "category", ("a",), 1)
    with pytest.raises(ValueError, match="direction"):
        Column("x", "number", (), 2)  # type: ignore[arg-type]


def test_the_ridge_equals_scikit_learn(rows):
    from sklearn.linear_model import LogisticRegression

    from predictive_scoring.model.design import design_matrix

    frame, y, _ = rows
    columns = learn_columns(frame, KINDS)
    encoded = encode(frame, columns)
    ours = fit_linear(encoded, y, columns, penalty=10.0)
    design = design_matrix(encoded, columns, ours.transforms)
    theirs = LogisticRegression(C=0.1, tol=1e-8, max_iter=5000).fit(design, y)
    assert np.allclose(ours.coefficients, theirs.coef_[0], atol=1e-4)
    assert ours.intercept == pytest.approx(theirs.intercept_[0], abs=1e-4)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # matplotlib, at the import of shap
@pytest.mark.filterwarnings("ignore:LightGBM binary classifier:UserWarning")  # a change of its return shape
def test_contributions_of_the_booster_are_tree_shap(rows, blend):
    import shap

    frame, _, columns = rows
    pure = PropensityModel(columns, blend.linear, blend.booster_text, 1.0)
    base, phi = pure.contributions(frame[:200])
    explainer = shap.TreeExplainer(pure._booster)
    values = explainer.shap_values(booster_matrix(encode(frame[:200], columns), columns))
    assert np.allclose(phi, values, atol=1e-12)
    assert base == pytest.approx(float(np.ravel(explainer.expected_value)[-1]), abs=1e-12)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_a_document_round_trip_is_bit_equal(rows, blend, weight):
    frame, _, columns = rows
    model = PropensityModel(columns, blend.linear, blend.booster_text if weight else "", weight)
    copy = PropensityModel.from_document(json.loads(json.dumps(model.to_document())), model.booster_text)
    assert copy == model
    assert np.array_equal(copy.margin(frame), model.margin(frame))
    assert np.array_equal(copy.contributions(frame)[1], model.contributions(frame)[1])


def test_a_lead_scores_the_same_alone_and_in_a_batch(rows, blend):
    frame = rows[0][:60]
    base, phi = blend.contributions(frame)
    margin = blend.margin(frame)
    for i in range(len(frame)):
        one = frame.iloc[i : i + 1]
        assert blend.margin(one)[0] == margin[i]
        alone = blend.contributions(one)
        assert alone[0] == base
        assert np.array_equal(alone[1][0], phi[i])


def test_an_empty_frame_has_a_base_and_no_rows(rows, blend):
    base, phi = blend.contributions(rows[0][:0])
    assert np.isfinite(base)
    assert phi.shape == (0, len(KINDS))
    assert blend.margin(rows[0][:0]).shape == (0,)


def test_declared_directions_hold(rows, blend):
    frame = rows[0][:300].reset_index(drop=True)
    before = blend.margin(frame)
    assert (blend.margin(frame.assign(visits=frame["visits"] + 3)) >= before - 1e-12).all()
    assert (blend.margin(frame.assign(days=frame["days"] + 40)) <= before + 1e-12).all()
    # Never seen is no better than seen long ago, or silence could raise a score.
    assert (blend.margin(frame.assign(days=np.nan)) <= before + 1e-12).all()


def test_the_selection_is_deterministic_and_refits_on_everything(rows):
    frame, y, columns = rows
    cut = 1400
    runs = [select_propensity(frame[:cut], y[:cut], frame[cut:], y[cut:], columns, seed=3) for _ in range(2)]
    assert runs[0].model == runs[1].model
    assert np.array_equal(runs[0].recent_margin, runs[1].recent_margin)
    assert runs[0].recent_margin.shape == (600,)
    assert runs[0].chosen in runs[0].trials
    # Out of fold: the refitted model has seen these rows, so its margins must differ.
    assert not np.array_equal(runs[0].recent_margin, runs[0].model.margin(frame[cut:]))
    same = select_propensity(frame[:cut], y[:cut], frame[cut:], y[cut:], columns, seed=3).model
    assert same == runs[0].model


def test_out_of_fold_margins_never_see_their_own_or_later_outcomes(rows):
    frame, y, columns = rows
    edges = time_blocks(y[1400:], None, 1400)
    assert len(edges) == 5
    changed = y.copy()
    changed[edges[-2] :] = 1.0 - changed[edges[-2] :]
    encoded = encode(frame, columns)
    first, second = (Search(encoded, v, np.ones(len(y)), columns, 3, edges) for v in (y, changed))
    for half_life in (None, 0.2):
        for before, after in (
            (first._ridge_margins(half_life), second._ridge_margins(half_life)),
            (first._booster_margins(half_life), second._booster_margins(half_life)),
        ):
            assert all(np.array_equal(before[key], after[key]) for key in before)


def test_few_conversions_mean_ridge_alone():
    frame, y = world(400, seed=5)
    y[np.flatnonzero(y)[30:]] = 0.0
    y[395] = 1.0
    model = select_propensity(
        frame[:250], y[:250], frame[250:], y[250:], learn_columns(frame, KINDS), seed=1
    ).model
    assert model.weight == 0.0
    assert model.booster_text == ""


def test_blocks_keep_one_time_together():
    y = np.ones(100)
    times = np.repeat([1, 2, 3], [30, 40, 30])
    edges = time_blocks(y, times, 50)
    assert edges[0] == 50
    assert edges[-1] == 150
    assert set(edges) <= {50, 80, 120, 150}
    assert time_blocks(np.array([1.0, 0.0]), None, 10) == (10, 12)


def test_training_refuses_what_cannot_teach(rows):
    frame, y, columns = rows
    zero = np.zeros(100)
    with pytest.raises(TrainingImpossible, match="same outcome"):
        select_propensity(frame[:100], zero, frame[100:200], y[100:200], columns, seed=1)
    with pytest.raises(TrainingImpossible, match="recent rows"):
        select_propensity(frame[:100], y[:100], frame[100:200], zero, columns, seed=1)
    with pytest.raises(TrainingImpossible, match="no column"):
        select_propensity(frame[:100], y[:100], frame[100:200], y[100:200], (), seed=1)
    with pytest.raises(TrainingImpossible, match="neither 0 nor 1"):
        select_propensity(frame[:100], y[:100] * 2, frame[100:200], y[100:200], columns, seed=1)
