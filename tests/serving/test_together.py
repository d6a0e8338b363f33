"""Requests that wait together are answered together, and each exactly as if it had come alone."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace

import pytest
from serving.problems import Refused
from serving.routes.leads import Wanted
from serving.routes.leads import documents as kept_documents
from serving.routes.score import Answer, Question, answers
from serving.together import Together
from sqlalchemy import create_engine

from predictive_scoring.errors import StoreUnavailable
from stored_project import listed

NOW = 1_780_000_000


def document(lead_id: str, day: int, visits: int = 1) -> dict:
    moments = [
        f"2026-02-{(number * 7 + day) % 27 + 1:02}T{number % 24:02}:00:00Z" for number in range(visits)
    ]
    return {
        "lead_id": lead_id,
        "created_at": f"2026-01-{day:02}T09:00:00Z",
        "attributes": {},
        "events": [
            {
                "event_id": str(number),
                "event_type": "pricing_view" if number % 3 else "page_view",
                "occurred_at": at,
            }
            for number, at in enumerate(moments)
        ],
    }


def body(*leads: dict, **more) -> bytes:
    return json.dumps({"leads": leads, "as_of": "2026-03-10T00:00:00Z", **more}).encode()


def test_answers_are_the_same_to_the_last_byte_together_and_alone(serving):
    stored = [row.lead_id for row in listed(serving)][:2]
    bodies = [
        *(body(document(f"lead-{day}", day, visits=3 * day)) for day in range(1, 12)),
        # The same lead with another history, another instant, and without the explanation.
        body(document("lead-1", 1, visits=40)),
        body(document("lead-1", 1, visits=40), as_of="2026-02-20T00:00:00Z"),
        body(document("lead-1", 2, visits=9), document("lead-2", 2), explanation=False),
        body({"lead_id": stored[0]}, document("lead-1", 1), {"lead_id": "nobody"}, as_of=None),
        body({"lead_id": stored[1]}, {"lead_id": "no time", "created_at": "soon"}),
    ]
    questions = [Question(serving, one, NOW) for one in bodies]
    together = answers(questions)
    alone = [answers([question])[0] for question in questions]
    assert together == alone
    assert {type(one) for one in together} == {Answer}


def test_a_refused_request_spares_its_neighbours(serving):
    good = body(document("lead-1", 1))
    found = answers([Question(serving, one, NOW) for one in (b"{", good, b"[]", good)])
    assert [type(one) for one in found] == [Refused, Answer, Refused, Answer]
    assert found[1] == found[3] == answers([Question(serving, good, NOW)])[0]


def test_kept_scores_are_found_together_each_from_its_own_model(serving):
    stored = [row.lead_id for row in listed(serving)][:3]
    other = replace(serving, scorer=replace(serving.scorer, identity="sha256:other"))
    asked = [
        *((serving, one) for one in (stored[0], "nobody", stored[1], stored[0], "\0")),
        (other, stored[2]),
    ]
    found = kept_documents([Wanted(*one) for one in asked])
    assert [None if one is None else json.loads(one)["lead_id"] for one in found] == [
        stored[0],
        None,
        stored[1],
        stored[0],
        None,
        # Kept, but by a model that does not serve here.
        None,
    ]
    assert found == [kept_documents([Wanted(*one)])[0] for one in asked]


def test_without_a_database_everybody_hears_of_it(serving, tmp_path):
    (tmp_path / "broken.db").write_bytes(b"no database" * 1000)
    broken = replace(serving.store, engine=create_engine(f"sqlite:///{tmp_path / 'broken.db'}"))
    found = kept_documents([Wanted(replace(serving, store=broken), one) for one in "ab"])
    assert [type(one) for one in found] == [StoreUnavailable] * 2


@pytest.fixture
def asked():
    """`await asked(questions, work, **limits)`: the first one is under way before the others come."""

    async def ask(questions, work, most=16, size=1000):
        begun, go_on = threading.Event(), threading.Event()

        def held(several):
            begun.set()
            go_on.wait(10)
            return work(several)

        together = Together(held, most, size)
        first = asyncio.create_task(together.ask(questions[0], len(questions[0])))
        await asyncio.to_thread(begun.wait, 10)
        others = [asyncio.create_task(together.ask(one, len(one))) for one in questions[1:]]
        await asyncio.sleep(0)
        go_on.set()
        try:
            return await asyncio.gather(first, *others, return_exceptions=True)
        finally:
            await asyncio.to_thread(together.stop)

    return lambda *given, **more: asyncio.run(ask(*given, **more))


def test_what_waits_is_taken_at_once_up_to_the_limits(asked):
    taken = []

    def work(several):
        taken.append(list(several))
        return [one.upper() for one in several]

    questions = ["a", "b", "c", "d" * 30, "e", "f"]
    assert asked(questions, work, most=3, size=20) == [one.upper() for one in questions]
    assert taken == [["a"], ["b", "c", "d" * 30], ["e", "f"]]
    taken.clear()
    asked(["a", "b" * 30, "c"], work, size=20)
    assert taken == [["a"], ["b" * 30], ["c"]]


def test_whoever_breaks_the_work_fails_alone(asked):
    def work(several):
        if "bad" in several:
            raise ValueError
        return list(several)

    found = asked(["a", "b", "bad", "c"], work)
    assert [found[0], found[1], found[3]] == ["a", "b", "c"]
    assert isinstance(found[2], ValueError)
