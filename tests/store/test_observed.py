"""How far the store knows the world, and other facts about it."""

import pytest

from predictive_scoring.keeping.store.activity import Feedback, TouchMade, record
from predictive_scoring.keeping.store.facts import facts_named, read_fact, write_fact
from predictive_scoring.keeping.store.observed import observed_until, raise_observed
from store_messages import NOON, event, identify, ingested


def known(store):
    return store.read(observed_until)


def test_the_end_of_what_is_known_rises_with_what_is_told_and_never_falls(store):
    assert known(store) == 0
    ingested(store, event("e1"), identify("i1", at=40))
    assert known(store) == NOON + 42
    ingested(store, event("e2", at=9))
    assert known(store) == NOON + 42
    touch = TouchMade("t1", "L-1", "case_study", "email", NOON, NOON + 60)
    store.write(lambda tx: record(tx, [touch], NOON + 60))
    assert known(store) == NOON + 61
    said = Feedback("f1", "L-1", "good", NOON + 90, "anna")
    store.write(lambda tx: record(tx, [said], NOON + 90))
    assert known(store) == NOON + 61
    # Numbers, not texts: 9 comes before 10.
    store.write(lambda tx: raise_observed(tx, 9_999_999))
    assert known(store) == NOON + 61


def test_what_was_refused_or_rolled_back_is_not_known(store):
    assert ingested(store, event("e1", lead_id=None)) == ["refused"]

    def fails(tx):
        raise_observed(tx, NOON)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.write(fails)
    assert known(store) == 0


def test_facts_are_noted_and_replaced(store):
    for name in ("push:a_c", "push:abc", "pull:a"):
        store.write(lambda tx, name=name: write_fact(tx, name, name))
    store.write(lambda tx: write_fact(tx, "push:a_c", "5"))
    assert store.read(lambda tx: facts_named(tx, "push:a_")) == {"push:a_c": "5"}
    assert list(store.read(lambda tx: facts_named(tx, "push:"))) == ["push:a_c", "push:abc"]
    assert store.read(lambda tx: read_fact(tx, "nothing")) is None
