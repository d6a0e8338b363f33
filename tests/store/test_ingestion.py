"""Batches of messages: counted once, in any order, each with its own answer."""

import random

import pytest
from sqlalchemy import func, select

from predictive_scoring.errors import UnknownLead
from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.histories import lead_ids, read_lead, read_leads
from predictive_scoring.keeping.store.ingestion import ingest
from predictive_scoring.keeping.store.messages import MOST_BYTES, Message
from predictive_scoring.keeping.store.rescoring import take
from predictive_scoring.schema import AttributeChange, Event
from store_messages import NOON, drawn, event, identify, ingested


def read(store, lead_id="L-1"):
    return store.read(lambda tx: read_lead(tx, lead_id))


def count(store, table):
    return store.read(lambda tx: tx.rows(select(func.count()).select_from(table))[0][0])


def test_a_batch_becomes_a_lead_with_its_history(store):
    batch = [
        identify("i1", title="Clerk", company_size=240, consent_email=True, tags=["a", "ß"]),
        event("e1", at=5, properties={"topic": "pricing", "duration_seconds": 3.5, "ok": True, "none": None}),
        identify("i2", at=9, title="VP", company_size=240),
    ]
    assert ingested(store, *batch) == ["accepted"] * 3
    lead = read(store)
    assert (lead.lead_id, lead.created) == ("L-1", NOON + 1)
    assert lead.attributes == {"title": "VP", "company_size": 240, "consent_email": True, "tags": ["a", "ß"]}
    properties = {"topic": "pricing", "duration_seconds": 3.5, "ok": True, "none": None}
    assert lead.events == (Event("e1", "page_view", NOON + 5, NOON + 6, properties),)
    assert set(lead.changes) == {
        AttributeChange("title", "Clerk", NOON, NOON + 1),
        AttributeChange("title", "VP", NOON + 9, NOON + 10),
        AttributeChange("company_size", "240", NOON, NOON + 1),
        AttributeChange("consent_email", "true", NOON, NOON + 1),
        AttributeChange("tags", '["a","ß"]', NOON, NOON + 1),
    }


def test_an_event_is_counted_once_within_a_batch_and_across_batches(store):
    assert ingested(store, event("e1"), event("e1", at=1), event("e2")) == [
        "accepted",
        "duplicate",
        "accepted",
    ]
    assert ingested(store, event("e2", lead_id="L-9"), event("e3")) == ["duplicate", "accepted"]
    assert [one.event_id for one in read(store).events] == ["e1", "e2", "e3"]


def test_a_message_that_cannot_be_kept_spares_its_neighbours_and_is_never_repeated(store):
    secret = "jane@example.org"
    bad = [
        event("b1", lead_id=None),
        event("b2", lead_id=""),
        event("b3", lead_id="anonymous:x"),
        event("b4", lead_id="x" * 201),
        event("b5", lead_id=f"{secret}\0"),
        event("b6", properties={"mail": f"{secret}\0"}),
        event("b7", properties={"mail": f"{secret}\ud800"}),
        event("b8", properties={"value": float("nan"), "mail": secret}),
        event("b9", properties={"value": 1e308 * 10}),
        event("b10", properties={"mail": secret * MOST_BYTES}),
        event("b11", at=10**12),
        event("b12", event_type="lead_created"),
        event("b13", event_type="x" * 101),
        event("b14", lead_id=None, anonymous_id="a", previous_id="b"),
        event("", lead_id="L-1"),
        identify("b16", **{f"t{n}": n for n in range(501)}),
        event(
            "b17",
            properties={"deep": __import__("functools").reduce(lambda inner, _: [inner], range(5000), [])},
        ),
        event("b18", properties={"odd": object()}),
        event("b19", properties={"huge": 10**5000}),
        event("b20", lead_id=5),
    ]
    batch = [event("good-1"), *bad, event("good-2")]
    found = store.write(lambda tx: ingest(tx, batch))
    assert [one.status for one in found.results] == ["accepted", *["refused"] * len(bad), "accepted"]
    for result in found.results[1:-1]:
        assert result.refusal is not None
        assert secret not in str(result.refusal)
    assert [one.event_id for one in read(store).events] == ["good-1", "good-2"]
    assert ingested(store) == []
    assert ingested(store, bad[0]) == ["refused"]


@pytest.mark.parametrize(
    "text", ["O'Neil; DROP TABLE leads;--", "%_\\", "語 🎈 \u202e", " ", "a\nb\tc", '"{}"']
)
def test_odd_text_comes_back_as_it_went_in(store, text):
    lead_id = f"id {text}"
    assert ingested(store, event(text, lead_id, event_type=text, properties={text: text})) == ["accepted"]
    assert ingested(store, identify("i", lead_id, **{text: text})) == ["accepted"]
    lead = read(store, lead_id)
    assert lead.attributes == {text: text}
    assert lead.events[0].properties == {text: text}
    assert lead.changes[0].value == text


@pytest.mark.parametrize("seed", range(3))
def test_late_reordered_and_repeated_messages_give_the_same_leads(store, seed):
    """The state is a function of the set of messages: known times apart, which tell when we learned of them."""
    messages = drawn(seed, 300)
    chance = random.Random(seed)
    # In time, as one batch of each fifty.
    for start in range(0, len(messages), 50):
        ingested(store, *messages[start : start + 50])
    wanted = state(store)
    clear(store)
    mixed = messages + chance.sample(messages, 100)
    chance.shuffle(mixed)
    while mixed:
        size = chance.randrange(1, 80)
        ingested(store, *mixed[:size])
        mixed = mixed[size:]
    assert state(store) == wanted


def state(store):
    """Leads by id: today's attributes, their history and events. A visitor that nobody was named with is a lead of
    its own."""

    def work(tx):
        ids = [row.lead_id for row in tx.rows(select(tables.leads.c.lead_id))]
        return read_leads(tx, ids)

    return {
        lead_id: (
            lead.attributes,
            steps(lead.changes),
            {(one.event_id, one.event_type, one.occurred, str(one.properties)) for one in lead.events},
        )
        for lead_id, lead in store.read(work).items()
    }


def steps(changes):
    """When each attribute took another value: of one second the greatest text, repetitions left out."""
    at = {(one.attribute, one.occurred): one.value for one in sorted(changes, key=lambda one: one.value)}
    found, before = [], None
    for (name, occurred), value in sorted(at.items()):
        if (name, value) != before:
            found.append((name, occurred, value))
        before = name, value
    return found


def clear(store):
    def work(tx):
        for table in tables.OF_A_LEAD:
            tx.execute(table.delete())

    store.write(work)


def test_a_lead_is_as_old_as_the_first_we_heard_of_it_unless_its_sender_knows_better(store):
    ingested(store, event("e2", at=100), event("e1", at=50))
    assert read(store).created == NOON + 51
    ingested(store, Message("i1", NOON + 200, NOON + 201, "L-1", traits={"a": 1}, created=NOON - 1000))
    ingested(store, event("e0", at=-5000))
    assert read(store).created == NOON - 1000


def test_a_cleared_trait_is_missing_and_its_history_says_so(store):
    ingested(store, identify("i1", title="VP"), identify("i2", at=3, title=None))
    lead = read(store)
    assert lead.attributes == {"title": None}
    assert [change.value for change in lead.changes] == ["VP", ""]


def test_what_stays_the_same_adds_nothing_to_the_history_and_nothing_to_the_queue(store):
    ingested(store, identify("i1", title="VP", size=3))
    first = store.write(lambda tx: ingest(tx, [identify("i2", at=60, title="VP", size=3.0)]))
    assert first.changed == ()
    assert len(read(store).changes) == 2


def test_what_was_told_again_says_until_when_a_late_value_held(store):
    repeated = [identify(f"i{at}", at=at, title="VP") for at in (10, 20, 30, 50)]
    ingested(store, *repeated)
    assert len(read(store).changes) == 1
    ingested(store, identify("late", at=25, title="Clerk"))
    assert steps(read(store).changes) == [
        ("title", NOON + 10, "VP"),
        ("title", NOON + 25, "Clerk"),
        ("title", NOON + 30, "VP"),
    ]
    # Each counts as known when it was told.
    assert {(one.occurred, one.known) for one in read(store).changes} == {
        (NOON + at, NOON + at + 1) for at in (10, 25, 30, 50)
    }
    # The same where another value ended the first one's time.
    ingested(store, identify("new", at=90, title="CEO"), identify("later", at=45, title="Clerk"))
    assert [step[1:] for step in steps(read(store).changes)][3:] == [
        (NOON + 45, "Clerk"),
        (NOON + 50, "VP"),
        (NOON + 90, "CEO"),
    ]


def test_of_two_ids_of_one_lead_the_values_of_one_lie_between_repetitions_of_the_others(store):
    ingested(store, *(identify(f"i{at}", "new", at, title="VP", size=3) for at in (10, 20, 30)))
    ingested(store, identify("o", "old", 15, title="Clerk"), identify("p", "old", 17, title="Clerk"))
    ingested(store, Message("a1", NOON + 50, NOON + 51, "new", previous_id="old"))
    assert steps(read(store, "new").changes) == [
        ("size", NOON + 10, "3"),
        ("title", NOON + 10, "VP"),
        ("title", NOON + 15, "Clerk"),
        ("title", NOON + 20, "VP"),
    ]
    ingested(store, identify("late", "old", 19, title="VP"), identify("later", "new", 25, title="Clerk"))
    assert [step[1:] for step in steps(read(store, "new").changes)][2:] == [
        (NOON + 15, "Clerk"),
        (NOON + 19, "VP"),
        (NOON + 25, "Clerk"),
        (NOON + 30, "VP"),
    ]


def test_a_visitor_becomes_the_lead_that_is_named_with_it(store):
    ingested(store, event("v1", None, anonymous_id="a"), event("v2", None, 1, anonymous_id="a"))
    assert store.read(lead_ids) == ()
    assert len(read(store, "anonymous:a").events) == 2
    ingested(store, identify("i1", at=100, name="Jane"), event("x", at=101, anonymous_id="a"))
    ingested(store, event("v3", None, at=150, anonymous_id="a"))
    lead = read(store)
    assert [one.event_id for one in lead.events] == ["v1", "v2", "x", "v3"]
    # Nobody knew before that these were about the lead: no model may learn from them earlier.
    assert [one.known for one in lead.events] == [NOON + 102, NOON + 102, NOON + 102, NOON + 151]
    assert read(store, "anonymous:a") == lead
    assert store.read(lead_ids) == ("L-1",)
    assert lead.created == NOON + 101


def test_a_browser_that_two_people_use_stays_with_the_first(store):
    ingested(store, event("e1", "L-1", anonymous_id="a"), event("e2", "L-2", 5, anonymous_id="a"))
    ingested(store, event("e3", None, 9, anonymous_id="a"))
    assert [one.event_id for one in read(store, "L-1").events] == ["e1", "e3"]
    assert [one.event_id for one in read(store, "L-2").events] == ["e2"]


def test_two_ids_of_one_lead_become_one_lead_with_one_history(store):
    ingested(
        store, event("e1", "old"), identify("i1", "old", 2, title="VP", city="Bonn"), event("e2", "new", 3)
    )
    ingested(store, identify("i2", "new", 4, title="CEO"))
    ingested(store, Message("a1", NOON + 50, NOON + 51, "new", previous_id="old"))
    # And back again, by a system that sees it the other way round: no circle.
    assert ingested(store, Message("a2", NOON + 60, NOON + 61, "old", previous_id="new")) == ["accepted"]
    lead = read(store, "new")
    assert read(store, "old") == lead
    assert lead.attributes == {"title": "CEO", "city": "Bonn"}
    assert [one.event_id for one in lead.events] == ["e1", "e2"]
    assert {change.value: change.known for change in lead.changes} == {
        "VP": NOON + 51,
        "Bonn": NOON + 51,
        "CEO": NOON + 5,
    }
    ingested(store, event("e3", "old", 70))
    assert [one.event_id for one in read(store, "new").events] == ["e1", "e2", "e3"]


def test_an_alias_that_moves_on_takes_the_lead_behind_it_along(store):
    ingested(store, event("e1", "first"), Message("a1", NOON, NOON, "first", previous_id="before"))
    # The batch names neither the lead nor its events.
    assert ingested(store, Message("a2", NOON, NOON, "second", previous_id="before")) == ["accepted"]
    for one in ("before", "first", "second"):
        lead = read(store, one)
        assert (lead.lead_id, [found.event_id for found in lead.events]) == ("second", ["e1"])


def test_aliases_of_aliases_lead_to_the_lead_within_one_batch_too(store):
    ingested(
        store,
        event("e1", "A", anonymous_id="x"),
        Message("m1", NOON + 1, NOON + 2, "B", previous_id="A"),
        event("e2", "B", 3),
        Message("m2", NOON + 4, NOON + 5, "C", previous_id="B"),
        event("e3", None, 6, anonymous_id="x"),
    )
    assert [one.event_id for one in read(store, "C").events] == ["e1", "e2", "e3"]
    for one in ("A", "B", "anonymous:x"):
        assert read(store, one) == read(store, "C")
    ingested(store, event("e4", "C", 7), Message("m3", NOON + 8, NOON + 9, "D", previous_id="C"))
    assert [one.event_id for one in read(store, "A").events] == ["e1", "e2", "e3", "e4"]
    assert store.read(lead_ids) == ("D",)


def test_changed_leads_wait_to_be_scored_and_visitors_do_not(store):
    found = store.write(
        lambda tx: ingest(tx, [event("e1"), event("e2", "L-2"), event("v", None, anonymous_id="a")])
    )
    assert found.changed == ("L-1", "L-2", "anonymous:a")
    due = store.write(lambda tx: take(tx, NOON + 10, 100, 60))
    assert [one.lead_id for one in due] == ["L-1", "L-2"]


def test_unknown_leads_are_told(store):
    with pytest.raises(UnknownLead):
        read(store, "nobody")
    assert store.read(lambda tx: read_leads(tx, ["nobody", "L-1"])) == {}


def test_many_leads_come_in_a_fixed_number_of_queries(store):
    ingested(store, *drawn(5, 400))
    statements = []
    from sqlalchemy import event as listening

    listening.listen(store.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    few = store.read(lambda tx: read_leads(tx, ["L-01", "L-02"]))
    spent = len(statements)
    statements.clear()
    many = store.read(lambda tx: read_leads(tx, [f"L-{n:02d}" for n in range(20)]))
    assert len(few) == 2
    assert len(many) == 20
    assert len(statements) == spent <= 7
    assert count(store, tables.events) == sum(len(lead.events) for lead in many.values()) + sum(
        len(lead.events)
        for lead_id, lead in store.read(
            lambda tx: read_leads(tx, [f"anonymous:L-{n:02d}-browser" for n in range(20)])
        ).items()
        if lead.lead_id == lead_id
    )
