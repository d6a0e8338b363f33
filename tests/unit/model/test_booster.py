import json

import numpy as np
import pytest

from predictive_scoring.model.booster import BoosterSettings, booster_margin, fit_booster, load_booster
from predictive_scoring.model.columns import Column

COLUMNS = (Column("a", "number"), Column("b", "number", (), 1))


def rows(n: int = 800) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    encoded = random.normal(size=(n, 2))
    return encoded, (random.random(n) < 1.0 / (1.0 + np.exp(-encoded @ [1.0, 1.0]))).astype(float)


@pytest.mark.parametrize("leaves", [4, 8, 16, 31])
def test_settings_are_obeyed_and_trees_stay_shallow(leaves):
    encoded, y = rows()
    settings = BoosterSettings(leaves=leaves, min_data=5)
    booster = fit_booster(encoded, y, COLUMNS, rounds=5, seed=1, settings=settings)
    trees = booster.trees_to_dataframe()
    sizes = trees[trees["left_child"].isna()].groupby("tree_index").size()
    assert sizes.max() <= leaves
    assert trees["node_depth"].max() - 1 <= settings.depth <= 7


def test_settings_survive_a_document():
    settings = BoosterSettings(leaves=31, learning_rate=0.0371, l2=0.3)
    assert BoosterSettings.from_document(json.loads(json.dumps(settings.to_document()))) == settings


def test_the_first_trees_of_a_longer_fit_are_a_shorter_fit():
    encoded, y = rows()
    long, short = (fit_booster(encoded, y, COLUMNS, rounds=n, seed=1) for n in (40, 10))
    assert np.array_equal(
        booster_margin(long, encoded, COLUMNS, rounds=10), booster_margin(short, encoded, COLUMNS)
    )


def test_equal_input_gives_an_equal_text_and_the_text_predicts_the_same():
    encoded, y = rows()
    one, other = (fit_booster(encoded, y, COLUMNS, rounds=10, seed=1) for _ in range(2))
    assert one.model_to_string() == other.model_to_string()
    loaded = load_booster(one.model_to_string())
    assert np.array_equal(booster_margin(loaded, encoded, COLUMNS), booster_margin(one, encoded, COLUMNS))
    assert booster_margin(one, encoded[:0], COLUMNS).shape == (0,)


@pytest.mark.parametrize("settings", [BoosterSettings(4, 0.1), BoosterSettings(31, 0.05, 5, 0.1, 1.0)])
def test_a_declared_direction_holds_with_any_settings(settings):
    encoded, y = rows()
    booster = fit_booster(encoded, y, COLUMNS, rounds=40, seed=1, settings=settings)
    raised = encoded + np.array([0.0, 0.7])
    before = booster_margin(booster, encoded, COLUMNS)
    assert (booster_margin(booster, raised, COLUMNS) >= before - 1e-12).all()
    missing = np.column_stack([encoded[:, 0], np.full(len(encoded), np.nan)])
    assert (booster_margin(booster, missing, COLUMNS) <= before + 1e-12).all()
