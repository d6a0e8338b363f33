"""Idempotency, keys and the audit log."""

import re
import threading

import pytest
from sqlalchemy import delete, func, select, update

from predictive_scoring.errors import IdempotencyConflict, InvalidSetting, InvalidValue, UnknownKey
from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.audit import FIRST, entries, note, verify
from predictive_scoring.keeping.store.idempotency import Answer, forget_expired, once
from predictive_scoring.keeping.store.ingestion import ingest
from predictive_scoring.keeping.store.keys import (
    SCOPES,
    check_key,
    create_key,
    has_key,
    list_keys,
    revoke_key,
)
from predictive_scoring.keeping.store.opening import open_store
from predictive_scoring.timeline import DAY
from store_messages import NOON, event


def ask(store, key="k", request="a", now=NOON, caller="c", work=None):
    work = work or (lambda tx: Answer(202, "done"))
    return store.write(
        lambda tx: once(tx, caller=caller, key=key, request_hash=request, now=now, work=lambda: work(tx))
    )


def ingesting(runs):
    def work(tx):
        runs.append(1)
        found = ingest(tx, [event(f"e{len(runs)}")])
        return Answer(202, f"{found.count('accepted')} accepted", found.changed)

    return work


# Idempotency --------------------------------------------------------------------------------------------------


def test_the_same_request_again_is_answered_and_not_done_again(store):
    runs = []
    first = ask(store, work=ingesting(runs))
    again = ask(store, work=ingesting(runs))
    assert (first.status, first.body, first.replayed) == (202, "1 accepted", False)
    assert (again.status, again.body, again.replayed) == (202, "1 accepted", True)
    assert len(runs) == 1


def test_another_request_with_the_same_key_is_refused_and_another_callers_key_is_another(store):
    ask(store)
    with pytest.raises(IdempotencyConflict):
        ask(store, request="b")
    assert not ask(store, request="b", caller="d").replayed
    assert not ask(store, request="b", key="l").replayed


def test_a_request_that_fails_may_be_sent_again(store):
    def failing(tx):
        ingest(tx, [event("e1")])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask(store, work=failing)
    runs = []
    assert ask(store, work=ingesting(runs)).body == "1 accepted"


def test_an_answer_is_kept_for_a_day(store):
    ask(store)
    assert ask(store, now=NOON + DAY - 1).replayed
    assert not ask(store, now=NOON + DAY, request="b").replayed
    assert store.write(lambda tx: forget_expired(tx, NOON + DAY)) == 0
    assert store.write(lambda tx: forget_expired(tx, NOON + 2 * DAY)) == 1
    assert store.read(lambda tx: tx.rows(select(func.count()).select_from(tables.idempotency))[0][0]) == 0


def test_of_two_equal_requests_at_once_one_runs_and_both_get_its_answer(store, url):
    runs, answers = [], []
    begun, both = threading.Event(), threading.Barrier(2)
    other = open_store(url)

    def slow(tx):
        begun.set()
        threading.Event().wait(0.2)
        return ingesting(runs)(tx)

    def send(one):
        both.wait(20)
        answers.append(ask(one, work=slow))

    threads = [threading.Thread(target=send, args=(one,)) for one in (store, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert begun.is_set()
    assert len(runs) == 1
    assert [answer.body for answer in answers] == ["1 accepted"] * 2
    assert sorted(answer.replayed for answer in answers) == [False, True]
    other.close()


# Keys ---------------------------------------------------------------------------------------------------------


def made(store, name="HubSpot", scopes=("crm",), **more):
    return store.write(lambda tx: create_key(tx, name, scopes, now=NOON, **more))


def checked(store, text, now=NOON):
    return store.read(lambda tx: check_key(tx, text, now))


def test_a_key_opens_what_its_scopes_say_and_only_its_hash_is_kept(store):
    key, text = made(store, scopes=("marketer", "crm"))
    assert checked(store, text) == key
    assert key.scopes == ("crm", "marketer")
    assert [key.allows(scope) for scope in SCOPES] == [True, True, False, False]
    assert all(made(store, scopes=("admin",))[0].allows(scope) for scope in SCOPES)
    secret = text.rsplit("_", 1)[1] if text.count("_") == 2 else text.split("_", 2)[2]
    rows = store.read(
        lambda tx: [str(row) for table in tables.metadata.tables.values() for row in tx.rows(select(table))]
    )
    assert not any(secret in row for row in rows)
    assert text != made(store)[1]


def test_nobody_else_gets_in(store):
    key, text = made(store)
    other = made(store)[1]
    for wrong in (
        "",
        "psk",
        text[:-1],
        text + "A",
        text.upper(),
        text[:-1] + ("A" if text[-1] != "A" else "B"),
        f"psk_{key.key_id}_{other.split('_', 2)[2]}",
        f"psk_{'0' * 12}_{text.split('_', 2)[2]}",
        text + "\n",
        text + "\0",
    ):
        assert checked(store, wrong) is None, wrong


def test_a_revoked_and_an_expired_key_are_of_no_use(store):
    assert not store.read(lambda tx: has_key(tx, NOON))
    key, text = made(store, expires=NOON + 100)
    assert checked(store, text, NOON + 99) is not None
    assert checked(store, text, NOON + 100) is None
    assert store.read(lambda tx: (has_key(tx, NOON + 99), has_key(tx, NOON + 100))) == (True, False)
    revoked = store.write(lambda tx: revoke_key(tx, key.key_id, now=NOON + 5))
    assert revoked.revoked == NOON + 5
    assert store.write(lambda tx: revoke_key(tx, key.key_id, now=NOON + 9)).revoked == NOON + 5
    assert checked(store, text, NOON + 6) is None
    assert store.read(list_keys) == (revoked,)
    assert not store.read(lambda tx: has_key(tx, NOON))
    actions = store.read(lambda tx: [entry.action for entry in entries(tx)])
    assert actions == ["key_created", "key_revoked"]


def test_an_impossible_key_is_refused(store):
    for scopes in ((), ("root",), ("crm", "root")):
        with pytest.raises(InvalidSetting):
            made(store, scopes=scopes)
    with pytest.raises(InvalidSetting):
        made(store, expires=NOON)
    with pytest.raises(InvalidValue):
        made(store, name="")
    with pytest.raises(UnknownKey):
        store.write(lambda tx: revoke_key(tx, "nobody", now=NOON))
    assert store.read(list_keys) == ()


# The audit log ------------------------------------------------------------------------------------------------


def chain(store, rows=6):
    for number in range(rows):
        store.write(
            lambda tx, n=number: note(
                tx, NOON + n, "cli", "did", lead_id=f"L-{n}", details={"n": n, "a": "ß"}
            )
        )
    return store.read(verify)


def test_the_chain_is_whole_and_holds_no_lead_id(store):
    empty = store.read(verify)
    assert (empty.is_whole, empty.rows, empty.head) == (True, 0, FIRST)
    found = chain(store)
    assert (found.is_whole, found.rows) == (True, 6)
    rows = store.read(lambda tx: list(entries(tx)))
    assert [row.number for row in rows] == list(range(1, 7))
    assert not any("L-" in str(row) for row in rows)
    assert all(re.fullmatch("[0-9a-f]{64}", row.subject) for row in rows)
    mine = store.read(lambda tx: list(entries(tx, lead_id="L-3")))
    assert [row.number for row in mine] == [4]


@pytest.mark.parametrize(
    "values",
    [
        {"at": NOON + 99},
        {"actor": "somebody"},
        {"action": "did nothing"},
        {"subject": None},
        {"details": '{"a":"\\u00df","n":7}'},
        {"previous": "f" * 64},
        {"hash": "f" * 64},
        {"number": 77},
    ],
    ids=lambda values: next(iter(values)),
)
def test_a_row_that_was_changed_is_found(store, values):
    chain(store)
    log = tables.audit_log
    store.write(lambda tx: tx.execute(update(log).where(log.c.number == 3).values(**values)))
    found = store.read(verify)
    assert (found.is_whole, found.broken) == (False, 3)


def test_rows_that_were_removed_are_found_wherever_they_stood(store):
    head = chain(store).head
    log = tables.audit_log
    store.write(lambda tx: tx.execute(delete(log).where(log.c.number == 6)))
    assert store.read(verify).broken == 6
    store.write(
        lambda tx: tx.execute(
            update(tables.counters).where(tables.counters.c.name == "audit").values(value=5)
        )
    )
    assert store.read(verify).is_whole
    # Who kept the newest hash elsewhere sees even that.
    assert store.read(lambda tx: verify(tx, head)).broken == 6
    store.write(lambda tx: tx.execute(delete(log).where(log.c.number == 1)))
    assert store.read(verify).broken == 1


def test_an_older_hash_that_was_noted_is_still_in_the_chain(store):
    head = chain(store, 3).head
    chain(store, 3)
    assert store.read(lambda tx: verify(tx, head)).is_whole
    assert not store.read(lambda tx: verify(tx, "e" * 64)).is_whole
