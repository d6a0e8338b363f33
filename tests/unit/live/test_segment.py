"""Segment's calls as messages: names, times by whose clock, ids; and one history whatever the order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictive_scoring.errors import InvalidDocument
from predictive_scoring.keeping.store.histories import read_leads
from predictive_scoring.keeping.store.ingestion import ingest
from predictive_scoring.keeping.store.messages import Message
from predictive_scoring.keeping.store.opening import open_store
from predictive_scoring.live.segment import MOST_ITEMS, SegmentBatch, SegmentReader
from predictive_scoring.settings import parse_project
from predictive_scoring.timeline import format_instant, parse_instant

PROJECT = parse_project(
    """\
name: demo
sources: {leads: {path: leads.csv}, events: {path: events.csv}}
events:
  page_view: {label: Page view}
  pricing_view: {label: Pricing, names: [Pricing Viewed, /pricing, "料金"]}
  call: {label: Call}
  won: {label: Won, names: [Order Completed]}
conversion: {event: won, horizon: 30d}
cutoffs: {first: 2026-01-01T00:00:00Z, every: 7d}
readiness: {share: 0.1}
""",
    "demo.yaml",
)
READER = SegmentReader(PROJECT)
NOON = parse_instant("2026-11-10T12:00:00Z")


def at(seconds: int) -> str:
    return format_instant(NOON + seconds)


def read(*items: Any, received: int = NOON, **frame: Any) -> SegmentBatch:
    return READER.read({"batch": list(items), **frame}, received)


def only(item: dict[str, Any], received: int = NOON, **frame: Any) -> Message:
    found = read({"messageId": "m", "userId": "L", **item}, received=received, **frame)
    assert not found.refusals, found.refusals
    return found.messages[0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("page_view", "page_view"),
        ("Page View", "page_view"),
        ("pageView", "page_view"),
        ("Pricing Viewed", "pricing_view"),
        ("pricing-viewed", "pricing_view"),
        ("Pricing View", "pricing_view"),
        ("料金", "pricing_view"),
        ("order completed", "won"),
        ("Moon Landing", "moon_landing"),
        ("???", "???"),
    ],
)
def test_a_name_means_the_event_type_that_is_spelled_alike(name, kind):
    assert only({"type": "track", "event": name}).event_type == kind


@pytest.mark.parametrize("kind", ["page", "screen"])
def test_a_page_is_a_page_view_unless_its_name_stands_for_more(kind):
    def seen(**more: Any) -> Message:
        return only({"type": kind, **more})

    assert seen(name="Home").event_type == "page_view"
    # A page called like an event type is still a page.
    assert seen(name="Call").event_type == "page_view"
    assert seen(name="/pricing").event_type == "pricing_view"
    assert seen(category="Pricing Viewed", name="Plans").event_type == "pricing_view"
    assert seen(properties={"name": "/pricing"}).event_type == "pricing_view"
    assert seen(name="Home", properties={"path": "/"}).properties == {"name": "Home", "path": "/"}


def test_identify_tells_traits_and_since_when_the_lead_is_known():
    message = only(
        {
            "type": "identify",
            "traits": {"title": "CEO", "plan": None, "createdAt": "2026-01-02T00:00:00+01:00"},
            "context": {"traits": {"title": "Clerk", "country": "DE"}, "ip": "192.0.2.1"},
        }
    )
    assert message.traits == {"title": "CEO", "plan": None, "country": "DE"}
    assert message.created == parse_instant("2026-01-01T23:00:00Z")
    assert message.event_type is None
    # What a device remembers of an earlier identify would undo what was said since.
    assert not only({"type": "track", "event": "call", "context": {"traits": {"title": "x"}}}).traits


def test_group_tells_of_the_company_and_never_renames_the_person():
    traits = {"name": "Initech", "industry": "Software", "employees": 90, "createdAt": "2001-01-01"}
    message = only({"type": "group", "groupId": "0e8c", "traits": traits})
    assert message.traits == {
        "group_name": "Initech",
        "industry": "Software",
        "employees": 90,
        "group_createdAt": "2001-01-01",
        "group_id": "0e8c",
    }
    assert message.created is None


def test_alias_joins_ids_of_either_kind():
    message = only({"type": "alias", "previousId": "before"})
    assert (message.lead_id, message.previous_id, message.visitor) == ("L", "before", "anonymous:before")
    assert only({"type": "alias", "anonymousId": "browser"}).visitor == "anonymous:browser"


def test_ids_may_be_numbers_and_empty_ones_are_none():
    message = only({"type": "track", "event": "call", "userId": 42, "anonymousId": ""})
    assert (message.lead_id, message.anonymous_id) == ("42", None)


# --- Whose clock --------------------------------------------------------------------------------------------


@given(st.integers(-400 * 86_400, 400 * 86_400), st.integers(0, 400 * 86_400))
def test_a_wrong_clock_does_not_matter_when_it_says_when_it_sent(skew, before):
    """An act `before` seconds ago, told by a sender whose clock is `skew` ahead."""
    item = {"type": "track", "event": "call", "timestamp": at(skew - before)}
    told = only(item, sentAt=at(skew))
    if -60 <= skew <= 0:
        # As slow as a slow line: taken as right, so that a retry tells the same time.
        assert told.occurred == NOON + skew - before
    else:
        assert told.occurred == NOON - before
    assert told.known == NOON
    assert only({**item, "sentAt": at(skew)}).occurred == told.occurred


def test_the_senders_own_time_goes_before_one_that_was_corrected_for_somebody_else():
    item = {"type": "track", "event": "call", "timestamp": at(-30), "originalTimestamp": at(3600 - 30)}
    assert only(item, sentAt=at(3600)).occurred == NOON - 30
    # Segment's servers saw it: `timestamp` is right already.
    replayed = {**item, "receivedAt": at(-29), "sentAt": at(3600)}
    assert only(replayed, received=NOON + 10**6).occurred == NOON - 30


def test_without_a_time_it_happened_now_and_the_near_future_is_now():
    assert only({"type": "track", "event": "call"}).occurred == NOON
    assert only({"type": "track", "event": "call"}, sentAt=at(-5000)).occurred == NOON
    assert only({"type": "track", "event": "call", "timestamp": at(60)}).occurred == NOON
    later = read({"type": "track", "event": "call", "userId": "L", "messageId": "m", "timestamp": at(61)})
    assert later.messages[0].occurred == NOON + 61
    assert [warning.code for warning in later.warnings] == ["FutureTime"]


# --- Ids ----------------------------------------------------------------------------------------------------


def test_an_item_without_an_id_gets_the_same_one_each_time_it_is_sent():
    item = {"type": "track", "userId": "L", "event": "call", "timestamp": at(-100)}
    (first,) = read(item, sentAt=at(0)).messages
    (again,) = read(dict(reversed(item.items())), sentAt=at(50), received=NOON + 50).messages
    assert first.message_id == again.message_id
    (other,) = read({**item, "properties": {"a": 1}}).messages
    assert other.message_id != first.message_id


def test_the_same_words_on_two_days_are_two_events():
    item = {"type": "track", "userId": "L", "event": "call"}
    ids = {
        read(item, received=NOON + day * 86_400, **frame).messages[0].message_id
        for day in range(2)
        for frame in ({}, {"sentAt": at(day * 86_400 - 3)})
    }
    assert len(ids) == 4


# --- Any order ----------------------------------------------------------------------------------------------

CALLS = st.lists(
    st.one_of(
        st.builds(
            lambda lead, name, seconds: {
                "type": "track",
                "userId": lead,
                "event": name,
                "timestamp": at(seconds),
            },
            st.sampled_from(["A", "B"]),
            st.sampled_from(["call", "Pricing Viewed", "page_view"]),
            st.integers(-9, 0),
        ),
        st.builds(
            lambda lead, title, seconds: {
                "type": "identify",
                "userId": lead,
                "traits": {"title": title},
                "timestamp": at(seconds),
            },
            st.sampled_from(["A", "B"]),
            st.sampled_from(["CEO", "Clerk", None]),
            # Of one second the order is the greatest text; between seconds it is time.
            st.integers(-9, 0),
        ),
        st.builds(
            lambda lead, seconds: {
                "type": "page",
                "anonymousId": f"{lead}-browser",
                "timestamp": at(seconds),
            },
            st.sampled_from(["A", "B"]),
            st.integers(-9, 0),
        ),
    ),
    min_size=1,
    max_size=12,
)


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("segment") / "store.db"
    open_store(f"sqlite:///{path}").close()
    return path


def history(template: Path, batches: list[list[dict[str, Any]]]) -> str:
    """What the store knows of everybody once these batches came, one after the other."""
    copy = template.with_name("copy.db")
    for ending in ("", "-wal", "-shm"):
        Path(f"{copy}{ending}").unlink(missing_ok=True)
    copy.write_bytes(template.read_bytes())
    store = open_store(f"sqlite:///{copy}")
    try:
        for items in batches:
            messages = READER.read({"batch": items}, NOON).messages
            store.write(lambda tx, messages=messages: ingest(tx, messages))
        ids = ["A", "B", "anonymous:A-browser", "anonymous:B-browser"]
        found = store.read(lambda tx: read_leads(tx, ids))
        return json.dumps(
            {
                one: [
                    lead.created,
                    dict(lead.attributes),
                    sorted((e.event_id, e.event_type, e.occurred, e.known) for e in lead.events),
                ]
                for one, lead in sorted(found.items())
            },
            sort_keys=True,
        )
    finally:
        store.close()


@settings(deadline=None, max_examples=25)
@given(CALLS, st.randoms(use_true_random=False))
def test_in_any_order_late_and_repeated_the_history_is_the_same(template, calls, chance):
    items = [{**call, "messageId": f"m-{number}"} for number, call in enumerate(calls)]
    shuffled = chance.sample(items, len(items)) + chance.sample(items, chance.randrange(len(items) + 1))
    split = chance.randrange(len(shuffled) + 1)
    assert history(template, [items]) == history(template, [shuffled[:split], shuffled[split:]])


# --- Refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document", [None, [], {}, {"batch": None}, {"batch": {}}, {"batch": [1] * (MOST_ITEMS + 1)}]
)
def test_what_is_no_batch_is_refused_whole(document):
    with pytest.raises(InvalidDocument):
        READER.read(document, NOON)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = (
    "type", "messageId", "userId", "anonymousId", "previousId", "groupId", "event", "name", "category", "traits",
    "properties", "context", "timestamp", "originalTimestamp", "sentAt", "receivedAt",
)  # fmt: skip


@given(
    st.lists(
        st.dictionaries(st.sampled_from(KEYS), json_values)
        | st.builds(
            lambda kind, more: {"userId": "L", **more, "type": kind},
            st.sampled_from(["identify", "track", "page", "screen", "group", "alias"]),
            st.dictionaries(st.sampled_from(KEYS), json_values),
        )
        | json_values,
        max_size=4,
    ),
    json_values,
)
def test_every_item_is_a_message_or_a_named_refusal(items, sent):
    found = READER.read({"batch": items, "sentAt": sent}, NOON)
    assert sorted((*found.indexes, *found.refusals)) == list(range(len(items)))
    for index, refused in found.refusals.items():
        assert refused.where.startswith(f"batch[{index}].")
