import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictive_scoring.errors import InvalidSetting
from predictive_scoring.model.columns import Column, encode, learn_columns
from predictive_scoring.model.points import DEFAULT_SPREAD, PointsCard, learn_card, named_levels
from predictive_scoring.settings import PointsRule

COLUMNS = (
    Column("visits", "number", direction=1),
    Column("days_since_visit", "number", direction=-1),
    Column("employees", "number"),
    Column("title", "category", ("cto", "dev", "sales")),
)
DOUBLE = math.log(2.0)
NONE = np.zeros((0, 4))


def rows(*values: tuple[float | None, float | None, float | None, str | None]) -> np.ndarray:
    return encode(pd.DataFrame(values, columns=[column.name for column in COLUMNS]), COLUMNS)


def rule(feature: str, points: float, **condition: object) -> PointsRule:
    return PointsRule(feature=feature, points=points, **condition)


def test_ten_points_double_the_odds_and_points_add_up():
    card = learn_card(
        [
            rule("visits", 10, min=1),
            rule("visits", 10, min=5),
            rule("employees", -20, min=10, max=50),
            rule("title", 5, equals=("cto", "sales")),
        ],
        COLUMNS,
        NONE,
    )
    told = card.log_odds(rows((0, 1, 5, "dev"), (1, 1, 10, "cto"), (7, 1, 50.5, "sales"), (5, 1, None, None)))
    assert np.allclose(told, DOUBLE * np.array([[0, 0, 0, 0], [1, 0, -2, 0.5], [2, 0, 0, 0.5], [2, 0, 0, 0]]))
    assert card.declared


def test_a_card_survives_its_document():
    card = learn_card(
        [rule("visits", 3, min=2), rule("days_since_visit", 4, max=7), rule("title", 5, equals=("cto",))],
        COLUMNS,
        NONE,
    )
    assert PointsCard.from_document(json.loads(json.dumps(card.to_document())), COLUMNS) == card


@pytest.mark.parametrize(
    ("rules", "where"),
    [
        ([rule("visits", 5, max=3)], "points[0]"),
        ([rule("visits", -5, min=3)], "points[0]"),
        ([rule("visits", 5, min=1), rule("visits", 5, min=2, max=8)], "points[1]"),
        ([rule("days_since_visit", 5, min=30)], "points[0]"),
        ([rule("employees", 5, min=1), rule("days_since_visit", -5, max=30)], "points[1]"),
    ],
)
def test_a_rule_against_the_direction_is_named(rules, where):
    with pytest.raises(InvalidSetting) as refused:
        learn_card(rules, COLUMNS, NONE)
    assert refused.value.where == where
    assert "direction" not in refused.value.remedy
    assert "`min`" in refused.value.remedy


numbers = st.one_of(st.none(), st.floats(-100, 100), st.sampled_from([1.0, 2.0, 5.0]))


@given(
    st.lists(st.tuples(st.sampled_from([1.0, 2.0, 5.0, 9.5]), st.floats(0, 30)), max_size=5),
    st.lists(st.tuples(st.sampled_from([1.0, 2.0, 5.0, 9.5]), st.floats(0, 30)), max_size=5),
    numbers,
    numbers,
)
def test_no_accepted_card_rewards_the_less_favourable(earned, lost, a, b):
    card = learn_card(
        [rule("visits", p, min=t) for t, p in earned]
        + [rule("visits", -p, max=t) for t, p in lost]
        + [rule("days_since_visit", p, max=t) for t, p in earned]
        + [rule("days_since_visit", -p, min=t) for t, p in lost]
        + [rule("title", 1, equals=("cto",))],
        COLUMNS,
        NONE,
    )
    low, high = sorted((-math.inf if a is None else a, -math.inf if b is None else b))
    few, many = (None if math.isinf(v) else v for v in (low, high))
    told = card.log_odds(rows((few, many, 1, None), (many, few, 1, None)))
    assert told[0, 0] <= told[1, 0] + 1e-12
    # An age that is not known is the longest there is.
    short, long_ = (few, many) if few is not None else (many, few)
    told = card.log_odds(rows((1, long_, 1, None), (1, short, 1, None)))
    assert told[0, 1] <= told[1, 1] + 1e-12


def test_a_rule_about_an_unknown_feature_suggests_one():
    with pytest.raises(InvalidSetting, match="Did you mean 'days_since_visit'"):
        learn_card([rule("day_since_visit", 5, max=3)], COLUMNS, NONE)
    with pytest.raises(InvalidSetting, match="not a feature of the model"):
        learn_card([rule("zzz", 5, max=3)], COLUMNS, NONE)


def test_a_condition_must_fit_the_kind():
    with pytest.raises(InvalidSetting, match="`equals`"):
        learn_card([rule("title", 5, min=3)], COLUMNS, NONE)
    with pytest.raises(InvalidSetting, match="`min`"):
        learn_card([rule("employees", 5, equals=("3",))], COLUMNS, NONE)


def test_the_default_card_is_modest_whatever_the_number_of_columns():
    random = np.random.default_rng(0)
    n = 4000
    one = random.poisson(1.0, n).astype(float)
    for copies in (1, 3, 30):
        names = [f"visits_{i}" for i in range(copies)]
        frame = pd.DataFrame(dict.fromkeys(names, one))
        frame["days"] = np.where(random.random(n) < 0.5, np.nan, random.gamma(1.0, 30.0, n))
        frame["constant"] = 1.0
        frame["free"] = random.normal(size=n)
        columns = learn_columns(
            frame,
            dict.fromkeys(frame, "number"),
            directions={**dict.fromkeys(names, 1), "days": -1, "constant": 1},
        )
        encoded = encode(frame, columns)
        card = learn_card((), columns, encoded)
        told = card.log_odds(encoded)
        assert told.sum(axis=1).std() == pytest.approx(DEFAULT_SPREAD, rel=0.02)
        assert not card.declared
        assert (told[:, -2:] == 0.0).all()
        # Windows of one event have one voice together: as loud as the age beside them.
        voices = told[:, :copies].sum(axis=1).std(), told[:, copies].std()
        assert 0.8 <= voices[0] / voices[1] <= 1.25


def test_without_directions_the_default_card_says_nothing():
    card = learn_card((), COLUMNS[2:], np.zeros((5, 2)))
    assert card.is_empty
    assert (card.log_odds(np.zeros((5, 2))) == 0.0).all()
    assert learn_card((), COLUMNS, np.full((5, 4), np.nan)).is_empty
    assert learn_card((), COLUMNS, NONE).is_empty


def test_texts_of_rules_enter_the_vocabulary_however_rare():
    rules = [
        rule("title", 5, equals=("cfo",)),
        rule("title", 2, equals=("ceo", "cto")),
        rule("visits", 1, min=1),
    ]
    assert named_levels(rules) == {"title": ("cfo", "ceo", "cto")}
    frame = pd.DataFrame({"title": ["dev"] * 30 + ["cto"]})
    (column,) = learn_columns(frame, {"title": "category"}, always=named_levels(rules))
    assert column.vocabulary == ("ceo", "cfo", "cto", "dev")
    told = learn_card(rules[:2], (column,), encode(frame, (column,))).log_odds(encode(frame, (column,)))
    assert told[:, 0].tolist() == [0.0] * 30 + [pytest.approx(0.2 * DOUBLE)]
