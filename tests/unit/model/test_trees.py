"""Our reading of a LightGBM text against LightGBM itself."""

import numpy as np
import pytest

from predictive_scoring.model.booster import (
    BoosterSettings,
    booster_contributions,
    booster_margin,
    fit_booster,
    load_booster,
)
from predictive_scoring.model.columns import Column
from predictive_scoring.model.linear import LinearPart
from predictive_scoring.model.propensity import FEW_ROWS, PropensityModel
from predictive_scoring.model.trees import Trees

COLUMNS = (
    Column("free", "number"),
    Column("whole", "number"),
    Column("up", "number", (), 1),
    Column("down", "number", (), -1),
    Column("full", "number"),
    Column("title", "category", tuple(f"t{n:02d}" for n in range(40))),
    Column("country", "category", ("de", "fr", "us")),
)


def rows(n: int, seed: int, missing: float = 0.15) -> np.ndarray:
    """Encoded rows with missing values in every column but one, unseen categories, and absurd numbers."""
    random = np.random.default_rng(seed)
    encoded = np.column_stack(
        [
            random.normal(size=n),
            random.integers(-2, 3, n),
            random.exponential(size=n),
            random.normal(size=n),
            random.normal(size=n),
            random.integers(0, 41, n),
            random.integers(0, 4, n),
        ]
    )
    for column in (0, 1, 2, 3, 5, 6):
        encoded[random.random(n) < missing, column] = np.nan
    return encoded


def fitted(settings: BoosterSettings, rounds: int) -> str:
    encoded = rows(3000, 1)
    random = np.random.default_rng(2)
    clean = np.nan_to_num(encoded)
    z = clean[:, 0] + clean[:, 2] - clean[:, 3] + (clean[:, 5] % 3 == 0) + (clean[:, 6] == 1) - 1.5
    y = (random.random(len(z)) < 1.0 / (1.0 + np.exp(-z))).astype(float)
    return fit_booster(encoded, y, COLUMNS, rounds=rounds, seed=1, settings=settings).model_to_string()


SETTINGS = [
    (BoosterSettings(4, 0.1), 60),
    (BoosterSettings(), 80),
    (BoosterSettings(16, feature_fraction=0.5, min_data=5), 80),
    (BoosterSettings(31, 0.1, 10, 1.0, 1.0), 25),
]


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda one: f"{one[0].leaves} leaves")
def text(request):
    return fitted(*request.param)


def strange_rows() -> np.ndarray:
    """Nobody was trained on these: far numbers, exactly 0, every code, rows of nothing."""
    far = rows(600, 9)
    far[:100, :5] *= 1e30
    far[100:110] = np.nan
    far[110:120, :5] = 0.0
    far[120:200, 5] = np.arange(80)
    far[200:210, 4] = np.nan
    far[210:212, 0] = (np.inf, -np.inf)
    return far


def test_margins_are_lightgbms_to_the_last_bit_and_contributions_to_1e_12(text):
    trees, booster = Trees.read(text, COLUMNS), load_booster(text)
    encoded = strange_rows()
    margins = [trees.margin(trees.ways(row)) for row in encoded]
    assert np.array_equal(margins, booster_margin(booster, encoded, COLUMNS))
    base, phi = booster_contributions(booster, encoded, COLUMNS)
    ours = np.array([trees.tables.contributions(trees.ways(row)) for row in encoded])
    assert trees.tables.base == pytest.approx(base, abs=1e-12)
    assert np.abs(ours - phi).max() <= 1e-12
    assert np.abs(trees.tables.base + ours.sum(axis=1) - margins).max() <= 1e-12
    assert (np.abs(ours) > 0.01).any(axis=0).sum() >= 5  # there is something to compare


def test_a_column_that_no_tree_reads_contributes_exactly_nothing():
    columns = (*COLUMNS, Column("constant", "number"))
    booster = fit_booster(
        np.column_stack([rows(500, 1), np.ones(500)]), np.arange(500) % 2.0, columns, rounds=5, seed=1
    )
    trees = Trees.read(booster.model_to_string(), columns)
    assert trees.tables.contributions(trees.ways(np.append(rows(1, 3)[0], 5.0)))[-1] == 0.0


def test_trees_that_never_split_are_a_constant():
    encoded = rows(40, 4)
    booster = fit_booster(encoded, np.arange(40) % 2.0, COLUMNS, rounds=3, seed=1)
    text = booster.model_to_string()
    trees = Trees.read(text, COLUMNS)
    assert (trees.depth, len(trees.feature)) == (0, 0)
    margin = trees.margin(trees.ways(encoded[0]))
    assert margin == booster_margin(load_booster(text), encoded[:1], COLUMNS)[0]
    assert (trees.tables.base, trees.tables.contributions(trees.ways(encoded[0])).tolist()) == (
        margin,
        [0.0] * 7,
    )


def model(text: str) -> PropensityModel:
    none = LinearPart(COLUMNS, (None,) * len(COLUMNS), 0.0, (), (), 1.0)
    return PropensityModel(COLUMNS, none, text, 1.0)


def test_few_rows_and_many_have_the_same_margins(text):
    many = rows(FEW_ROWS + 1, 5)
    assert np.array_equal(model(text).encoded_margin(many)[:50], model(text).encoded_margin(many[:50]))


def test_a_model_too_large_for_tables_is_explained_by_lightgbm(text, monkeypatch):
    encoded = rows(20, 6)
    base, phi = model(text).encoded_contributions(encoded)
    monkeypatch.setattr("predictive_scoring.model.trees.LARGEST_TABLES", 10)
    large = model(text)
    assert large.trees.tables is None
    other_base, other = large.encoded_contributions(encoded)
    assert other_base == pytest.approx(base, abs=1e-12)
    assert np.abs(other - phi).max() <= 1e-12


@pytest.mark.parametrize(
    ("written", "instead", "what"),
    [
        ("is_linear=0", "is_linear=1", "linear leaves"),
        ("decision_type=", "decision_type=6 ", "zeros for missing"),
    ],
)
def test_trees_of_another_kind_are_refused(written, instead, what):
    text = fitted(BoosterSettings(4, 0.1), 2)
    with pytest.raises(ValueError, match=what):
        Trees.read(text.replace(written, instead), COLUMNS)


NEEDED = (
    "leaf_value=",
    "decision_type=",
    "threshold=",
    "cat_threshold=",
    "split_feature=",
    "left_child=",
    "leaf_count=",
)


@pytest.mark.parametrize("field", NEEDED)
def test_a_damaged_text_is_refused_by_name_instead_of_ending_the_process(field):
    text = fitted(BoosterSettings(4, 0.1), 2)
    at = text.index(field, text.index("Tree=1"))
    end = text.index("\n", at)
    for damaged in (
        text[:at],
        text[:at] + field + text[text.rindex(" ", at, end) : end],
        text[:at] + text[end + 1 :],
    ):
        with pytest.raises(ValueError, match="not whole"):
            Trees.read(damaged, COLUMNS)


def test_children_that_lead_in_a_circle_are_refused():
    text = fitted(BoosterSettings(4, 0.1), 2)
    at = text.index("left_child=")
    circle = text[:at] + "left_child=0 0 0" + text[text.index("\n", at) :]
    with pytest.raises(ValueError, match="not whole"):
        Trees.read(circle, COLUMNS)


def test_trees_over_other_columns_are_refused():
    with pytest.raises(ValueError, match="columns"):
        Trees.read(fitted(BoosterSettings(), 5), COLUMNS[:2])
