"""Scores: kept with reasons and vectors, and read page by page without a gap while others write."""

import json
import threading
import time

import pytest
from sqlalchemy import LargeBinary, cast, select

from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.messages import Message
from predictive_scoring.keeping.store.opening import open_store
from predictive_scoring.keeping.store.rescoring import done, take
from predictive_scoring.keeping.store.scores import (
    append_scores,
    counts,
    forget_superseded,
    holding_scores,
    latest_scores,
    page,
    ranked,
    sides,
)
from predictive_scoring.schema import Reason, Score
from store_messages import NOON, event, ingested
from store_scores import append, scored


def pages(store, limit=3, after=0, **more):
    """Every row from `after` on, page by page."""
    rows = []
    while True:
        found = store.read(lambda tx, after=after: page(tx, after, limit, **more))
        rows += found.rows
        after = found.cursor
        if not found.more:
            return rows


def test_a_score_is_kept_whole(store):
    ingested(store, event("e1"))
    one = scored("L-1")
    assert append(store, one) == ()
    kept = store.read(lambda tx: latest_scores(tx, ["L-1"]))["L-1"]
    assert Score.model_validate_json(kept.document) == one.score
    assert (kept.cursor, kept.lead_id, kept.scored_at) == (1, "L-1", NOON)
    row = store.read(lambda tx: tx.rows(select(tables.scores))[0])
    assert json.loads(row.vector) == one.vector
    assert json.loads(row.reasons)[0]["text"] == "Viewed pricing – twice"
    assert (row.bundle, row.as_of, row.probability) == ("sha256:aa", NOON, 0.5)


def test_documents_are_kept_small(store):
    ingested(store, event("e1"))
    reasons = tuple(Reason(text=f"Viewed page {n} – twice", direction="raises", points=4) for n in range(40))
    one = scored("L-1", reasons=reasons)
    append(store, one)
    text = one.score.model_dump_json().encode()
    kept = store.read(lambda tx: tx.rows(select(cast(tables.scores.c.document, LargeBinary)))[0][0])
    assert len(kept) < len(text) / 4


def test_a_lead_that_is_not_stored_gets_no_score(store):
    ingested(store, event("e1"))
    assert append(store, scored("L-1"), scored("gone")) == ("gone",)
    assert [row.lead_id for row in pages(store)] == ["L-1"]
    assert append(store) == ()


def test_the_latest_score_is_the_one_of_the_latest_instant(store):
    ingested(store, event("e1"))
    append(store, scored("L-1", 40, at=10), scored("L-1", 41, at=10))
    append(store, scored("L-1", 30, at=5))
    kept = store.read(lambda tx: latest_scores(tx, ["L-1"]))["L-1"]
    assert json.loads(kept.document)["score"] == 41
    assert [json.loads(row.document)["score"] for row in pages(store, every=True)] == [40, 41, 30]


def test_a_score_holds_by_any_of_the_leads_ids_until_something_is_told_of_it(store):
    def holding(lead_id):
        found = store.read(lambda tx: holding_scores(tx, [lead_id])).get(lead_id)
        return None if found is None else (found.bundle, json.loads(found.document)["score"])

    ingested(store, event("e1", anonymous_id="a"), Message("m", NOON, NOON, "L-1", previous_id="old"))
    append(store, scored("L-1", 40))
    # It waits since the events came.
    assert holding("L-1") is None
    store.write(lambda tx: done(tx, take(tx, NOON + 99, 10, 60)))
    append(store, scored("L-1", 41, at=5))
    for one in ("L-1", "old", "anonymous:a"):
        assert holding(one) == ("sha256:aa", 41)
    for one in ("nobody", ""):
        assert holding(one) is None
    ingested(store, event("e2", at=9))
    assert holding("old") is None


def test_pages_hold_each_leads_latest_score_once_and_a_new_one_comes_again(store):
    leads = [f"L-{n}" for n in range(8)]
    ingested(store, *(event(f"e{n}", lead) for n, lead in enumerate(leads)))
    append(store, *(scored(lead) for lead in leads))
    first = pages(store)
    assert [row.lead_id for row in first] == leads
    append(store, scored("L-2", 60, at=9), scored("L-5", 61, at=9), at=100)
    assert [row.lead_id for row in pages(store, after=first[-1].cursor)] == ["L-2", "L-5"]
    assert [row.lead_id for row in pages(store)][-2:] == ["L-2", "L-5"]
    assert len(pages(store)) == 8
    assert len(pages(store, every=True)) == 10
    assert [row.lead_id for row in pages(store, since=NOON + 100)] == ["L-2", "L-5"]
    end = store.read(lambda tx: page(tx, 10))
    assert (end.rows, end.cursor, end.more) == ((), 10, False)


def test_leads_are_ranked_by_their_latest_score_and_those_without_come_last(store):
    leads = ["A", "B", "C", "D"]
    ingested(store, *(event(f"e{n}", lead) for n, lead in enumerate(leads)))
    nothing = {"probability": None, "score": None, "readiness": None, "status": "suppressed"}
    append(
        store, scored("A", 40), scored("B", 90, readiness="ready", stage="decision"), scored("C", **nothing)
    )
    append(store, scored("D", 60))

    def found(**more):
        return [row.lead_id for row in store.read(lambda tx: ranked(tx, **more)).rows]

    assert found() == ["B", "D", "A", "C"]
    assert store.read(lambda tx: ranked(tx, limit=1, offset=1)).total == 4
    assert found(limit=2, offset=1) == ["D", "A"]
    assert found(readiness="ready") == ["B"]
    assert found(readiness="unscored") == ["C"]
    assert found(stage="decision") == ["B"]
    assert found(search="%") == []
    assert found(search="D") == ["D"]


def test_the_rank_is_the_place_among_all_leads_whatever_the_list_leaves_out(store):
    leads = [f"L-{n}" for n in range(9)]
    ingested(store, *(event(f"e{n}", lead) for n, lead in enumerate(leads)))
    values = [40, 90, 40, 70, 10, 90, 55, 20, 30]
    nothing = {"probability": None, "score": None, "readiness": None, "status": "suppressed"}
    append(store, *(scored(lead, value) for lead, value in zip(leads[:8], values, strict=False)))
    append(store, scored("L-8", **nothing))
    append(store, scored("L-3", 70, at=9, readiness="ready"), scored("L-7", 20, at=9, readiness="ready"))

    def places(**more):
        return [(row.lead_id, row.rank) for row in store.read(lambda tx: ranked(tx, **more)).rows]

    every = places()
    assert every == [
        *((lead, n) for n, lead in enumerate(["L-1", "L-5", "L-3", "L-6", "L-0", "L-2", "L-7", "L-4"], 1)),
        ("L-8", None),
    ]
    assert places(readiness="ready") == [("L-3", 3), ("L-7", 7)]
    assert places(search="L-2") == [("L-2", 6)]
    assert places(limit=3, offset=4) == every[4:7]
    assert places(readiness="unscored") == [("L-8", None)]


def test_the_sizes_of_the_lists_are_those_of_the_lists(store):
    leads = ["A", "B", "C", "D"]
    ingested(store, *(event(f"e{n}", lead) for n, lead in enumerate(leads)))
    assert store.read(counts).by_readiness == {"ready": 0, "nurture": 0, "unscored": 0}
    nothing = {"probability": None, "score": None, "readiness": None, "status": "suppressed"}
    append(store, scored("A", 40), scored("B", 90, readiness="ready", stage="decision"))
    append(store, scored("C", **nothing), scored("D", 50, stage="decision"))
    found = store.read(counts)
    for readiness, number in found.by_readiness.items():
        assert store.read(lambda tx, one=readiness: ranked(tx, readiness=one)).total == number
    assert found.by_readiness == {"ready": 1, "nurture": 2, "unscored": 1}
    assert found.by_stage == {"decision": 2}


def test_a_leads_side_is_that_of_its_latest_score(store):
    ingested(store, event("e1"), event("e2", "L-2"), event("e3", "L-3"))
    nothing = {"probability": None, "score": None, "readiness": None, "status": "suppressed"}
    append(store, scored("L-1", readiness="ready"), scored("L-2", readiness="ready"))
    append(store, scored("L-1", at=9), scored("L-2", at=9, **nothing))
    wanted = ["L-1", "L-2", "L-3", "L-\0"]
    assert store.read(lambda tx: sides(tx, wanted)) == {"L-1": "nurture"}


def test_superseded_scores_go_by_and_by_and_latest_ones_stay(store):
    ingested(store, event("e1"), event("e2", "L-2"))
    for day in range(3):
        append(store, scored("L-1", at=day), scored("L-2", at=day), at=day)
    assert store.write(lambda tx: forget_superseded(tx, NOON + 2, 3)) == 3
    assert store.write(lambda tx: forget_superseded(tx, NOON + 2, 3)) == 1
    assert store.write(lambda tx: forget_superseded(tx, NOON + 9, 3)) == 0
    assert [row.cursor for row in pages(store, every=True)] == [5, 6]


def test_a_later_cursor_is_never_seen_before_an_earlier_one_is_committed(store, url):
    """The trap of sequences: one writer takes number 1 and dawdles, another takes 2 and commits."""
    ingested(store, event("e1"), event("e2", "L-2"))
    other = open_store(url)
    numbered, go_on = threading.Event(), threading.Event()

    def dawdling():
        def work(tx):
            append_scores(tx, [scored("L-1")], NOON)
            numbered.set()
            assert go_on.wait(20)

        store.write(work)

    slow = threading.Thread(target=dawdling)
    quick = threading.Thread(target=append, args=(other, scored("L-2")))
    slow.start()
    assert numbered.wait(20)
    quick.start()
    time.sleep(0.3)
    seen = pages(other)
    assert seen == []
    go_on.set()
    slow.join(20)
    quick.join(20)
    assert [(row.cursor, row.lead_id) for row in pages(other)] == [(1, "L-1"), (2, "L-2")]
    other.close()


def test_a_reader_misses_nothing_while_several_write(store, url):
    leads = [f"L-{n}" for n in range(12)]
    ingested(store, *(event(f"e{n}", lead) for n, lead in enumerate(leads)))
    writers, rounds = 3, 25
    finished = threading.Event()
    failures = []

    def write(number):
        mine = open_store(url, wait=60)
        try:
            for turn in range(rounds):
                some = [
                    scored(lead, 1 + turn, at=turn) for lead in leads[number :: writers - 1][: 1 + turn % 4]
                ]
                mine.write(lambda tx, some=some: append_scores(tx, some, NOON))
        except Exception as refused:  # noqa: BLE001 - told by the test below
            failures.append(refused)
        finally:
            mine.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    seen = []

    def follow():
        after = 0
        while True:
            ended = finished.is_set()
            found = store.read(lambda tx, after=after: page(tx, after, 7, every=True))
            seen.extend(row.cursor for row in found.rows)
            after = found.cursor
            if ended and not found.rows:
                return

    reader = threading.Thread(target=follow)
    reader.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    finished.set()
    reader.join(60)
    assert failures == []
    every = [row.cursor for row in pages(store, limit=100, every=True)]
    assert seen == every == list(range(1, len(every) + 1))


@pytest.mark.parametrize("limit", [1, 5])
def test_an_empty_store_has_an_empty_page(store, limit):
    found = store.read(lambda tx: page(tx, 0, limit))
    assert (found.rows, found.cursor, found.more) == ((), 0, False)
