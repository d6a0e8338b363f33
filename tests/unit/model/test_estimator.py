import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from predictive_scoring import LeadScorer


@parametrize_with_checks([LeadScorer(), LeadScorer(ordered=True)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_the_rules_of_scikit_learn(estimator, check):
    check(estimator)


def leads(n: int = 1500, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "visits": random.negative_binomial(1, 0.3, n).astype(float),
            "days": np.where(random.random(n) < 0.3, np.nan, random.gamma(1.0, 30.0, n)),
            "trial": random.random(n) < 0.2,
            "title": random.choice(np.array(["cto", "dev", "sales", None], dtype=object), n),
            "region": random.choice(np.array([10, 20, 30]), n),
        },
        index=[f"L-{i}" for i in range(n)],
    )
    z = (
        -1.5
        + 0.8 * np.log1p(frame["visits"])
        - 0.01 * frame["days"].fillna(150)
        + 0.7 * (frame["title"] == "cto")
        + 0.8 * (frame["region"] == 20)
    )
    return frame, np.where(random.random(n) < expit(z), "won", "lost")


@pytest.fixture(scope="module")
def table() -> tuple[pd.DataFrame, np.ndarray]:
    return leads()


@pytest.fixture(scope="module")
def fitted(table) -> LeadScorer:
    frame, y = table
    return LeadScorer(categories=["region"], directions={"visits": 1, "days": -1}).fit(frame, y)


def test_a_frame_goes_in_and_a_frame_with_its_index_comes_out(table, fitted):
    frame, _ = table
    scores = fitted.scores(frame)
    assert list(scores.columns) == ["probability", "low", "high", "log_odds"]
    assert scores.index.equals(frame.index)
    assert fitted.classes_.tolist() == ["lost", "won"]
    assert fitted.feature_names_in_.tolist() == list(frame.columns)
    assert np.array_equal(scores["probability"], fitted.predict_proba(frame)[:, 1])
    assert ((scores["low"] <= scores["probability"]) & (scores["probability"] <= scores["high"])).all()
    assert (scores["high"] - scores["low"]).mean() > 0.005
    held, outcome = leads(1500, seed=9)
    p = fitted.scores(held)["probability"]
    assert roc_auc_score(outcome == "won", p) > 0.7
    assert p.mean() == pytest.approx((outcome == "won").mean(), abs=0.04)


def test_the_parts_of_an_explanation_add_up_to_the_log_odds(table, fitted):
    frame = table[0][:300].copy()
    frame.loc[frame.index[:5], "title"] = "never seen"
    frame.loc[frame.index[5:9], "visits"] = np.nan
    parts = fitted.explain(frame)
    assert list(parts.columns) == ["base", *frame.columns]
    assert parts.index.equals(frame.index)
    total = parts.sum(axis=1).to_numpy()
    assert np.abs(total - fitted.decision_function(frame)).max() <= 1e-9
    assert np.abs(total - logit(fitted.predict_proba(frame)[:, 1])).max() <= 1e-9


def test_declared_directions_hold(table, fitted):
    frame = table[0][:300]
    before = fitted.decision_function(frame)
    assert (fitted.decision_function(frame.assign(visits=frame["visits"] + 3)) >= before - 1e-12).all()
    assert (fitted.decision_function(frame.assign(days=np.nan)) <= before + 1e-12).all()


def test_codes_declared_as_categories_are_not_amounts(table, fitted):
    frame, _ = table
    (region,) = [column for column in fitted.model_.columns if column.name == "region"]
    assert region.kind == "category"
    one = frame[:1]
    z = {code: fitted.decision_function(one.assign(region=code))[0] for code in (10, 20, 30)}
    assert z[20] > max(z[10], z[30]) + 0.2


def test_it_works_in_a_pipeline_a_clone_and_a_grid(table):
    frame, y = table
    frame, y = frame[:400], y[:400]
    pipeline = make_pipeline(FunctionTransformer(lambda X: X.drop(columns="region")), LeadScorer())
    assert cross_val_score(clone(pipeline), frame, y, cv=2, scoring="roc_auc").mean() > 0.6
    grid = GridSearchCV(LeadScorer(), {"ordered": [False, True]}, cv=2, scoring="neg_log_loss")
    assert grid.fit(frame, y).best_params_["ordered"] in (False, True)


def test_equal_input_gives_an_equal_model_and_another_seed_other_folds(table):
    frame, y = table
    frame, y = frame[:500], y[:500]
    one, other = (LeadScorer(random_state=3).fit(frame, y).decision_function(frame) for _ in range(2))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, LeadScorer(random_state=4).fit(frame, y).decision_function(frame))


def test_a_handful_of_rows_gives_a_modest_model_instead_of_an_error():
    frame, y = leads(30, seed=2)
    model = LeadScorer().fit(frame, y)
    p = model.predict_proba(frame)[:, 1]
    rate = (y == "won").mean()
    assert p.mean() == pytest.approx(rate, abs=0.02)
    assert np.abs(p - rate).max() < 0.4
    scores = model.scores(frame)
    assert (scores["high"] - scores["low"]).min() > 0.05


def test_rows_of_one_lead_in_several_folds_would_look_too_good(table):
    # The same lead ten times: its own outcome is known to other folds unless its rows stay together.
    frame, y = leads(60, seed=4)
    frame = frame.assign(noise=np.random.default_rng(1).normal(size=len(frame)))
    many, outcomes = pd.concat([frame] * 10, ignore_index=True), np.tile(y, 10)
    groups = np.tile(np.arange(len(frame)), 10)
    apart = LeadScorer().fit(many, outcomes)
    together = LeadScorer().fit(many, outcomes, groups=groups)
    held, truth = leads(1000, seed=5)
    held = held.assign(noise=0.0)
    loss = {
        name: np.logaddexp(0.0, -z * np.where(truth == "won", 1, -1)).mean()
        for name, z in (
            ("apart", apart.decision_function(held)),
            ("together", together.decision_function(held)),
        )
    }
    assert loss["together"] < loss["apart"]


def test_a_row_without_weight_is_no_row(table):
    frame, y = table
    frame, y = frame[:400], y[:400]
    weight = np.ones(len(y))
    weight[300:] = 0.0
    one = LeadScorer().fit(frame, y, sample_weight=weight).decision_function(frame)
    assert np.array_equal(one, LeadScorer().fit(frame[:300], y[:300]).decision_function(frame))


def test_a_budget_searches_further(monkeypatch):
    from predictive_scoring.model import tuning

    told = []
    spend = tuning._spend
    monkeypatch.setattr(tuning, "_spend", lambda *given: told.append(given[-1]) or spend(*given))
    frame, y = leads(700, seed=1)
    LeadScorer(trials=1).fit(frame, y)
    assert [(budget.trials, budget.minutes) for budget in told] == [(1, None)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": ["colour"]}, "does not have"),
        ({"directions": {"title": 1}}, "only a number"),
        ({"directions": {"visits": 3}}, "direction must be"),
    ],
)
def test_parameters_that_do_not_fit_the_table_are_named(table, change, message):
    frame, y = table
    with pytest.raises(ValueError, match=message):
        LeadScorer(**change).fit(frame[:100], y[:100])


def test_values_that_are_no_numbers_are_named(table):
    frame, y = table
    frame, y = frame[:100], y[:100]
    with pytest.raises(ValueError, match="infinity in column 'visits'"):
        LeadScorer().fit(frame.assign(visits=np.inf), y)
    with pytest.raises(ValueError, match="holds dates"):
        LeadScorer().fit(frame.assign(since=pd.Timestamp("2026-01-01")), y)
    with pytest.raises(ValueError, match="must hold numbers"):
        LeadScorer().fit(frame, y).predict(frame.assign(visits="many"))


def test_the_package_waits_passively_and_loads_the_learners_only_when_asked():
    script = (
        "import json, os, sys, predictive_scoring as p; before = 'lightgbm' in sys.modules; p.LeadScorer; "
        "print(json.dumps([before, 'lightgbm' in sys.modules, os.environ['OMP_WAIT_POLICY']]))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert json.loads(told) == [False, True, "passive"]
    with pytest.raises(AttributeError, match="no attribute 'Missing'"):
        __import__("predictive_scoring").Missing  # noqa: B018
