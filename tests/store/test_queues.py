"""Queues: leads to score again, jobs, and messages to others. Nothing is done twice, nothing is forgotten."""

import pytest

from predictive_scoring.errors import InvalidValue, UnknownJob, UnknownLead
from predictive_scoring.keeping.store.activity import Consent, Feedback, Outcome, TouchMade, record
from predictive_scoring.keeping.store.histories import read_lead
from predictive_scoring.keeping.store.jobs import (
    advance,
    cancel,
    create_job,
    finish,
    list_jobs,
    next_leads,
    read_job,
    take_job,
)
from predictive_scoring.keeping.store.outbox import (
    Outgoing,
    dead_letters,
    delivered,
    not_delivered,
    outbox_counts,
    post,
    revive,
    take_due,
)
from predictive_scoring.keeping.store.rescoring import (
    backlog,
    done,
    mark_outdated,
    still_ours,
    take,
)
from predictive_scoring.schema import Touch
from store_messages import NOON, event, identify, ingested, waiting
from store_scores import append, scored

LEADS = [f"L-{n}" for n in range(5)]


@pytest.fixture
def filled(store):
    ingested(store, *(event(f"e-{lead}", lead) for lead in LEADS))
    return store


# Leads to score again -----------------------------------------------------------------------------------------


def test_a_lead_that_was_scored_leaves_the_queue_unless_it_changed_meanwhile(filled):
    due = filled.write(lambda tx: take(tx, NOON + 10, 10, 60))
    assert [one.lead_id for one in due] == LEADS
    assert filled.write(lambda tx: take(tx, NOON + 10, 10, 60)) == ()
    ingested(filled, event("more", "L-3", 11))
    assert filled.read(lambda tx: backlog(tx, NOON + 12)).claimed == 5
    filled.write(lambda tx: done(tx, due))
    again = filled.write(lambda tx: take(tx, NOON + 12, 10, 60))
    assert [one.lead_id for one in again] == ["L-3"]
    filled.write(lambda tx: done(tx, again))
    assert filled.read(lambda tx: backlog(tx, NOON + 12)).waiting == 0


def test_leads_whose_worker_died_come_up_again_and_the_longest_waiting_come_first(filled):
    ingested(filled, event("early", "late-comer", 50))
    first = filled.write(lambda tx: take(tx, NOON + 100, 2, 60))
    second = filled.write(lambda tx: take(tx, NOON + 100, 10, 60))
    assert [one.lead_id for one in (*first, *second)] == [*LEADS, "late-comer"]
    assert len(filled.write(lambda tx: take(tx, NOON + 160, 10, 60))) == 6
    state = filled.read(lambda tx: backlog(tx, NOON + 161))
    assert (state.waiting, state.claimed, state.oldest) == (6, 6, NOON + 1)


def test_who_was_too_slow_learns_that_another_one_took_the_leads(filled):
    slow = filled.write(lambda tx: take(tx, NOON + 10, 3, 60))
    ingested(filled, event("more", "L-1", 11))
    assert filled.write(lambda tx: still_ours(tx, slow)) == slow
    quick = filled.write(lambda tx: take(tx, NOON + 70, 2, 60))
    assert [one.lead_id for one in filled.write(lambda tx: still_ours(tx, slow))] == ["L-2"]
    assert [one.lead_id for one in filled.write(lambda tx: take(tx, NOON + 70, 9, 60))] == [
        "L-2",
        "L-3",
        "L-4",
    ]
    assert filled.write(lambda tx: still_ours(tx, quick)) == quick


def test_outdated_are_those_without_a_score_of_another_bundle_or_from_too_long_ago(filled):
    filled.write(lambda tx: done(tx, take(tx, NOON + 10, 10, 60)))
    ingested(filled, event("v", None, anonymous_id="a"))
    append(filled, scored("L-0", at=100), scored("L-1", at=99), scored("L-2", at=100), scored("L-3", at=100))
    ingested(filled, event("more", "L-3", 11))

    def marked(bundle="sha256:aa", before=NOON + 100, limit=10):
        return filled.write(
            lambda tx: mark_outdated(tx, bundle=bundle, before=before, now=NOON + 200, limit=limit)
        )

    assert marked() == 2
    # L-3 waits anyway.
    assert waiting(filled) == {"L-1", "L-3", "L-4"}
    assert marked() == 0
    assert [marked("sha256:bb", limit=1) for _ in range(3)] == [1, 1, 0]
    assert waiting(filled) == set(LEADS)


# Jobs ---------------------------------------------------------------------------------------------------------


def test_a_job_goes_through_its_leads_in_steps_and_ends(filled):
    ingested(filled, event("v", None, anonymous_id="a"))
    made = filled.write(lambda tx: create_job(tx, "score", {"keep": 1}, now=NOON, actor="c"))
    assert (made.state, made.total, made.done, made.parameters) == ("queued", 5, 0, {"keep": 1})
    job = filled.write(lambda tx: take_job(tx, "w1", NOON, 60))
    seen = []
    while leads := filled.read(lambda tx, job=job: next_leads(tx, job, 2)):
        seen += [lead for _, lead in leads]
        job = filled.write(
            lambda tx, job=job, place=leads[-1][0]: advance(
                tx, job, "w1", done=place, failed=1, now=NOON, lease=60
            )
        )
    assert seen == LEADS
    assert filled.write(lambda tx: finish(tx, job, "w1", now=NOON + 9))
    ended = filled.read(lambda tx: read_job(tx, made.job_id))
    assert (ended.state, ended.done, ended.failed, ended.finished) == ("done", 5, 3, NOON + 9)
    assert filled.write(lambda tx: take_job(tx, "w2", NOON + 1000, 60)) is None
    assert filled.read(list_jobs) == (ended,)


def test_a_job_whose_worker_died_goes_on_behind_its_last_step_and_the_dead_one_cannot_disturb(filled):
    made = filled.write(
        lambda tx: create_job(tx, "score", {}, now=NOON, actor="c", lead_ids=["L-4", "L-0", "L-4"])
    )
    assert made.total == 2
    first = filled.write(lambda tx: take_job(tx, "w1", NOON, 60))
    first = filled.write(lambda tx: advance(tx, first, "w1", done=1, failed=0, now=NOON, lease=60))
    assert filled.write(lambda tx: take_job(tx, "w2", NOON + 59, 60)) is None
    second = filled.write(lambda tx: take_job(tx, "w2", NOON + 60, 60))
    assert filled.read(lambda tx: next_leads(tx, second, 10)) == ((2, "L-0"),)
    # Not dead, only slow: what it did meanwhile does not count.
    assert filled.write(lambda tx: advance(tx, first, "w1", done=2, failed=0, now=NOON, lease=60)) is None
    assert not filled.write(lambda tx: finish(tx, first, "w1", now=NOON))
    assert filled.write(lambda tx: finish(tx, second, "w2", now=NOON, error="StoreUnavailable"))
    assert filled.read(lambda tx: read_job(tx, made.job_id)).error == "StoreUnavailable"


def test_a_cancelled_job_stops(filled):
    made = filled.write(lambda tx: create_job(tx, "score", {}, now=NOON, actor="c"))
    job = filled.write(lambda tx: take_job(tx, "w1", NOON, 60))
    assert filled.write(lambda tx: cancel(tx, made.job_id, NOON)).state == "cancelled"
    assert filled.write(lambda tx: advance(tx, job, "w1", done=1, failed=0, now=NOON, lease=60)) is None
    with pytest.raises(UnknownJob):
        filled.write(lambda tx: cancel(tx, "nobody", NOON))


# Messages to others -------------------------------------------------------------------------------------------


def taken(store, now, limit=10):
    return [one.message_id for one in store.write(lambda tx: take_due(tx, now, limit, 60))]


def test_a_message_is_tried_until_it_arrives(store):
    store.write(
        lambda tx: post(tx, [Outgoing("crm", "score.changed", f'{{"n":{n}}}') for n in range(2)], NOON)
    )
    first, second = taken(store, NOON)
    assert taken(store, NOON) == []
    store.write(lambda tx: delivered(tx, first))
    store.write(lambda tx: not_delivered(tx, second, "Timeout", attempts=1, due=NOON + 5))
    assert taken(store, NOON + 4) == []
    assert taken(store, NOON + 5) == [second]
    # Its worker died: it comes up again.
    assert taken(store, NOON + 65) == [second]
    store.write(lambda tx: not_delivered(tx, second, "Busy", attempts=2, due=NOON + 9000))
    assert taken(store, NOON + 8999) == []
    (waiting,) = store.write(lambda tx: take_due(tx, NOON + 9000, 10, 60))
    assert (waiting.attempts, waiting.last_error, waiting.payload) == (2, "Busy", '{"n":1}')
    assert store.read(outbox_counts) == (1, 0)


def test_a_message_that_never_arrives_dies_and_may_be_revived(store):
    store.write(lambda tx: post(tx, [Outgoing("crm", "score.changed", "{}", "L-1")], NOON))
    now = NOON + 100
    (one,) = taken(store, now)
    store.write(lambda tx: not_delivered(tx, one, "Refused", attempts=10, due=now, dead=True))
    assert taken(store, now * 2) == []
    assert [letter.message_id for letter in store.read(dead_letters)] == [one]
    assert store.read(outbox_counts) == (0, 1)
    assert store.write(lambda tx: revive(tx, now, [one + 1])) == 0
    assert store.write(lambda tx: revive(tx, now)) == 1
    assert taken(store, now) == [one]


# What else is told about leads --------------------------------------------------------------------------------


def test_what_is_told_is_kept_once_under_the_lead_that_is_meant(filled):
    ingested(filled, identify("i", "L-1", at=60))
    touch = TouchMade("t1", "L-1", "case_study", "email", NOON, NOON, 0.5, False)
    told = [
        touch,
        Consent("L-1", "email", False, NOON, NOON, "form"),
        Feedback("f1", "L-1", "bad", NOON, "key-1"),
        Outcome("o1", "L-1", "lost", NOON, NOON),
    ]
    filled.write(lambda tx: done(tx, take(tx, NOON + 100, 10, 60)))
    assert filled.write(lambda tx: record(tx, told, NOON + 100)) == (True,) * 4
    assert filled.write(lambda tx: record(tx, told, NOON + 100)) == (False,) * 4
    assert filled.read(lambda tx: read_lead(tx, "L-1")).touches == (Touch("t1", "case_study", "email", NOON),)
    assert [one.lead_id for one in filled.write(lambda tx: take(tx, NOON + 100, 10, 60))] == ["L-1"]


@pytest.mark.parametrize(
    "told",
    [
        TouchMade("", "L-1", "a", "email", NOON, NOON),
        TouchMade("t", "L-1", "a", "email", NOON, NOON, propensity=1.5),
        TouchMade("t", "L-1", "a", "email", -5, NOON),
        Feedback("f", "L-1", "so-so", NOON, "me"),
        Feedback("f", "L-1", "good", NOON, "me", note="\0"),
        Outcome("o", "L-1", "won", NOON, NOON, 5, "EURO"),
        Outcome("o", "L-1", "won", NOON, NOON, 2**70, "EUR"),
    ],
    ids=lambda told: type(told).__name__,
)
def test_what_cannot_be_kept_is_refused_and_nothing_of_it_is_kept(filled, told):
    fine = Consent("L-1", "email", True, NOON, NOON)
    with pytest.raises(InvalidValue):
        filled.write(lambda tx: record(tx, [fine, told], NOON))
    assert filled.write(lambda tx: record(tx, [fine], NOON)) == (True,)


def test_of_a_lead_that_is_not_there_nothing_is_kept(filled):
    with pytest.raises(UnknownLead):
        filled.write(lambda tx: record(tx, [Consent("nobody", "email", True, NOON, NOON)], NOON))
