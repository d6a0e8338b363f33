"""The history of an attribute, whatever the order in which its values are told."""

from hypothesis import example, given
from hypothesis import strategies as st

from predictive_scoring.keeping.store.attributes import Held, merged, read_held, spelled, told, written

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["", "a", "b", "true", "2"]), st.just(2.0)
)
TOLD = st.lists(st.tuples(VALUES, st.integers(0, 6)), min_size=1, max_size=12)
IN_TIME = TOLD.map(lambda assertions: sorted(assertions, key=lambda one: one[1]))


def told_all(assertions):
    held, history = None, []
    for known, (value, occurred) in enumerate(assertions):
        held, changes = told(held, "title", value, occurred, 100 + known)
        history += changes
    return held, history


def read_at(history, instant):
    """As the features read it: the newest value, of one second the greatest text; None before the first."""
    seen = [(change.occurred, change.value) for change in history if change.occurred <= instant]
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


@given(IN_TIME)
def test_told_in_time_every_value_is_read_at_its_own_second(assertions):
    """Of several that were told for one second, the greatest text."""
    _, history = told_all(assertions)
    for value, occurred in assertions:
        rivals = {spelled(other) for other, at in assertions if at == occurred}
        assert read_at(history, occurred) == max(rivals), (value, occurred)


@given(TOLD, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter_for_today(assertions, chance):
    mixed = list(assertions)
    chance.shuffle(mixed)
    assert spelled(told_all(mixed)[0].value) == spelled(told_all(assertions)[0].value)


def test_told_late_a_value_holds_until_the_next_that_the_history_knows():
    _, history = told_all([("a", 1), ("a", 5), ("b", 3)])
    assert [read_at(history, instant) for instant in range(7)] == [None, "a", "a", "b", "b", "a", "a"]
    _, history = told_all([("a", 1), ("c", 5), ("b", 3)])
    assert [read_at(history, instant) for instant in range(7)] == [None, "a", "a", "b", "b", "c", "c"]


@given(IN_TIME)
def test_told_again_nothing_changes(assertions):
    held, history = told_all(assertions)
    again, more = held, []
    for value, occurred in assertions:
        again, changes = told(again, "title", value, occurred, 500)
        more += changes
    assert spelled(again.value) == spelled(held.value)
    for instant in range(8):
        assert read_at(history + more, instant) == read_at(history, instant)


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
