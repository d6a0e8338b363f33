"""The history of an attribute, whatever the order in which its values are told."""

from hypothesis import example, given
from hypothesis import strategies as st

from predictive_scoring.keeping.store.attributes import Held, merged, read_held, spelled, told, written

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["", "a", "b", "true", "2"]), st.just(2.0)
)
TOLD = st.lists(st.tuples(VALUES, st.integers(0, 6)), min_size=1, max_size=12)


def told_all(assertions):
    """Today's value, and the history as (instant, text): what was told again becomes part of it when a value comes
    late into the time between."""
    held, history, confirmed = None, set(), set()
    for value, occurred in assertions:
        held, kind = told(held, value, occurred)
        one = occurred, spelled(value)
        if kind == "confirmed":
            confirmed.add(one)
        elif kind != "repeated":
            history.add(one)
        if kind == "late":
            history |= {other for other in confirmed if other >= (occurred, "")}
    return held, history


def read_at(history, instant):
    """As the features read it: the newest value, of one second the greatest text; None before the first."""
    seen = [one for one in history if one[0] <= instant]
    return max(seen)[1] if seen else None


@given(TOLD)
@example([("a", 1), ("a", 5), ("b", 3)])
@example([("a", 2), ("b", 2)])
def test_todays_value_is_the_newest_that_was_told_and_the_history_agrees(assertions):
    held, history = told_all(assertions)
    newest = max((occurred, spelled(value)) for value, occurred in assertions)
    assert spelled(held.value) == newest[1]
    assert read_at(history, 10) == newest[1]
    assert held.since <= held.confirmed == newest[0]


@given(TOLD)
@example([("a", 1), ("a", 2), ("a", 5), ("b", 1), ("b", 4)])
@example([("b", 1), ("b", 3), ("a", 6), ("a", 2)])
def test_in_any_order_the_history_says_what_was_told_last_of_every_instant(assertions):
    """Of several that were told for one second, the greatest text."""
    _, history = told_all(assertions)
    everything = {(occurred, spelled(value)) for value, occurred in assertions}
    for instant in range(8):
        assert read_at(history, instant) == read_at(everything, instant), instant


def test_told_late_a_value_holds_until_the_next_that_was_told():
    _, history = told_all([("a", 1), ("a", 5), ("b", 3)])
    assert [read_at(history, instant) for instant in range(7)] == [None, "a", "a", "b", "b", "a", "a"]
    _, history = told_all([("a", 1), ("c", 5), ("b", 3)])
    assert [read_at(history, instant) for instant in range(7)] == [None, "a", "a", "b", "b", "c", "c"]


@given(TOLD)
def test_told_again_nothing_changes(assertions):
    held, history = told_all(assertions)
    again, more = told_all(assertions * 2)
    assert spelled(again.value) == spelled(held.value)
    for instant in range(8):
        assert read_at(more, instant) == read_at(history, instant)


def test_a_value_that_is_confirmed_again_and_again_is_one_change():
    _, history = told_all([("a", second) for second in range(100)])
    assert len(history) == 1


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=5))
def test_what_is_held_comes_back_from_its_columns(values):
    held = {name: Held(value, 3, 5) for name, value in values.items()}
    assert read_held(*written(held)) == held


def test_of_two_leads_that_are_one_the_newer_value_holds():
    one = {"a": Held("x", 1, 9), "b": Held("x", 5, 5)}
    other = {"a": Held("y", 8, 8), "b": Held("y", 5, 5), "c": Held(3, 0, 0)}
    assert {name: held.value for name, held in merged(one, other).items()} == {"a": "x", "b": "y", "c": 3}
    assert merged(one, other) == merged(other, one)


def test_one_number_has_one_spelling():
    assert spelled(240) == spelled(240.0) == "240"
    assert [spelled(value) for value in (None, True, 0.5, {"b": 1, "a": 2})] == [
        "",
        "true",
        "0.5",
        '{"a":2,"b":1}',
    ]
