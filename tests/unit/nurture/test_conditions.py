import math
import pickle  # noqa: TID251 - only to check that a rule could be shipped to a Spark worker

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictive_scoring.nurture.conditions import (
    Condition,
    compile_condition,
    describe,
    facts,
    holds,
    names,
)

RULE = Condition.model_validate


@pytest.mark.parametrize("missing", [{}, {"x": None}, {"x": math.nan}, {"x": np.float64("nan")}])
def test_a_missing_value_makes_every_comparison_false(missing):
    for test in ({"at_least": 0}, {"at_most": 0}, {"equals": 0}, {"is_in": [0]}, {"is_missing": False}):
        rule = RULE({"feature": "x", **test})
        assert not holds(rule, missing)
        assert holds(RULE({"not": {"feature": "x", **test}}), missing)
    assert holds(RULE({"feature": "x", "is_missing": True}), missing)


@pytest.mark.parametrize(
    ("test", "value", "answer"),
    [
        ({"at_least": 2}, 2, True),
        ({"at_least": 2}, 1.9, False),
        ({"at_most": 2}, 2, True),
        ({"at_most": 2}, np.int64(3), False),
        ({"at_least": 1, "at_most": 2}, 3, False),
        ({"equals": "CFO"}, " cfo ", True),
        ({"equals": True}, True, True),
        ({"equals": True}, False, False),
        ({"is_in": ["a", "B"]}, "b", True),
        ({"is_in": ["a"]}, "c", False),
        ({"is_in": [1, 2]}, 2.0, True),
        ({"at_least": 2}, "three", False),
        ({"at_most": 2}, "1", False),
        ({"equals": 1}, "1", False),
        ({"is_in": ["a"]}, ["a"], False),
        ({"is_missing": False}, "", True),
    ],
)
def test_tests(test, value, answer):
    assert holds(RULE({"feature": "x", **test}), {"x": value}) is answer


LEAVES = st.builds(
    lambda name, test: {"feature": name, **test},
    st.sampled_from("abc"),
    st.one_of(
        st.builds(lambda v: {"at_least": v}, st.integers(-2, 2)),
        st.builds(lambda v: {"at_most": v}, st.integers(-2, 2)),
        st.builds(lambda v: {"is_in": v}, st.lists(st.integers(-2, 2), min_size=1, max_size=3)),
        st.builds(lambda v: {"is_missing": v}, st.booleans()),
    ),
)
RULES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"all": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
    ),
    max_leaves=6,
)
FEATURES = st.dictionaries(st.sampled_from("abc"), st.one_of(st.none(), st.integers(-3, 3)))


def plainly(rule, features):
    if "all" in rule:
        return all(plainly(part, features) for part in rule["all"])
    if "any" in rule:
        return any(plainly(part, features) for part in rule["any"])
    if "not" in rule:
        return not plainly(rule["not"], features)
    value = features.get(rule["feature"])
    if "is_missing" in rule:
        return (value is None) == rule["is_missing"]
    if value is None:
        return False
    if "at_least" in rule:
        return value >= rule["at_least"]
    return value <= rule["at_most"] if "at_most" in rule else value in rule["is_in"]


@settings(max_examples=300, deadline=None)
@given(RULES, FEATURES)
def test_compiled_rules_equal_a_plain_reading(rule, features):
    condition = RULE(rule)
    assert compile_condition(condition)(features) == plainly(rule, features)
    assert condition == RULE(condition.model_dump(mode="json", by_alias=True, exclude_none=True))
    assert set(names(condition)) <= set("abc")
    assert describe(condition)
    assert facts(condition, features)


def test_compiled_rules_travel_to_other_processes():
    # Our own bytes, within one test: Spark ships functions to its workers this way.
    rule = compile_condition(
        RULE({"any": [{"feature": "x", "at_least": 2}, {"feature": "y", "equals": "a"}]})
    )
    assert pickle.loads(pickle.dumps(rule))({"y": "A"})  # noqa: S301


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"feature": "pricing_view_count_30d", "at_least": 2}, "at least 2 pricing views in the last 30 days"),
        ({"feature": "email_open_count_7d", "at_least": 1}, "at least 1 email open in the last 7 days"),
        ({"feature": "days_since_page_view", "at_most": 14}, "at most 14 days since the last page view"),
        ({"feature": "company_size", "at_least": 50, "at_most": 500}, "company size between 50 and 500"),
        ({"feature": "industry", "is_in": ["A", "B", "C"]}, "industry A, B or C"),
        ({"feature": "title", "is_missing": True}, "no known title"),
        ({"not": {"feature": "industry", "equals": "Bank"}}, "without industry Bank"),
        (
            {"all": [
                {"feature": "a", "equals": 1},
                {"any": [{"feature": "b", "equals": 2}, {"feature": "c", "equals": 3}]},
            ]},
            "a 1 and (b 2 or c 3)",
        ),
    ],
)  # fmt: skip
def test_describes_in_words(rule, words):
    assert describe(RULE(rule)) == words


def test_labels_are_used_where_given():
    rule = RULE({"feature": "pricing_view_count_30d", "at_least": 2})
    labels = {"pricing_view_count_30d": "Pricing page views, last 30 days"}
    assert describe(rule, labels) == "at least 2 pricing page views in the last 30 days"
    assert describe(RULE({"feature": "r", "at_least": 2}), {"r": "ROI visits"}) == "ROI visits at least 2"


def test_facts_tell_what_is_true_of_this_lead():
    rule = RULE(
        {"all": [
            {"any": [{"feature": "title", "is_in": ["CFO"]}, {"feature": "call_count_30d", "at_least": 1}]},
            {"feature": "industry", "is_missing": False},
        ]}
    )  # fmt: skip
    found = facts(rule, {"title": "Buyer", "call_count_30d": 2.0, "industry": "Steel\n works"})
    assert found == ("calls in the last 30 days: 2", "industry: Steel works")
    assert len(facts(rule, {"title": "cfo", "industry": "x" * 1000})[1]) < 80
