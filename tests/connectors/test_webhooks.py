"""Webhooks out, until they arrive or are given up; HubSpot's webhooks in."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crm_servers import CLIENT, NOW, Clock, Fault, Receiver
from predictive_scoring.connectors.hubspot_webhooks import read_hubspot
from predictive_scoring.connectors.outbox import MemoryOutbox
from predictive_scoring.connectors.signatures import SeenInMemory, verify_standard
from predictive_scoring.connectors.webhooks_out import (
    DELAYS,
    Endpoint,
    deliver,
    enqueue,
    outside,
    score_changed,
)
from predictive_scoring.errors import InvalidDocument, InvalidSetting
from predictive_scoring.schema import AttributeChange, ModelReference, Score

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def receiver():
    server = Receiver()
    yield server
    server.close()


@pytest.fixture
def outbox():
    return MemoryOutbox()


def endpoint(receiver, name="crm", secrets=(SECRET,)):
    return Endpoint(name, f"{receiver.base}/hook", secrets)


def round_(outbox, endpoints, clock, **options):
    return deliver(outbox, endpoints, CLIENT, clock.world(), **options)


# Out ------------------------------------------------------------------------------------------------------------


def test_a_message_arrives_signed_and_is_gone(receiver, outbox, clock):
    one = endpoint(receiver)
    enqueue(outbox, "msg_1", '{"type":"score.changed","data":"ä"}', [one], NOW)
    assert round_(outbox, [one], clock).sent == 1
    ((headers, body),) = receiver.got
    assert verify_standard(headers, body, [SECRET], NOW, SeenInMemory()) == "msg_1"
    assert headers["content-type"] == "application/json"
    assert round_(outbox, [one], clock).sent == 0


def test_the_published_schedule_and_then_the_dead_letter(receiver, outbox):
    """One message that never arrives: ten attempts over 75 hours, each signed anew under the same id."""
    one, clock = endpoint(receiver), Clock()
    receiver.faults = dict.fromkeys(range(1, 20), Fault(500))
    enqueue(outbox, "msg_1", "{}", [one], NOW)
    times = []
    for _ in range(14):
        before = len(receiver.got)
        round_(outbox, [one], clock)
        if len(receiver.got) > before:
            times.append(sum(clock.slept))
        waiting = outbox.due(10**12, 1)
        if not waiting:
            break
        clock.slept.append(waiting[0].due - NOW - sum(clock.slept))
    assert len(times) == len(DELAYS) + 1
    gaps = [later - earlier for earlier, later in pairwise(times)]
    # The chance of the test clock is one half: 5 % on top.
    assert gaps == [int(delay * 1.05) for delay in DELAYS]
    assert {headers["webhook-id"] for headers, _ in receiver.got} == {"msg_1"}
    assert len({headers["webhook-timestamp"] for headers, _ in receiver.got}) == 10
    (dead,) = outbox.dead()
    assert (dead.attempts, dead.last) == (10, "HTTP 500")


def test_retry_after_puts_it_off_and_a_busy_endpoint_is_left_alone(receiver, outbox, clock):
    busy = endpoint(receiver)
    receiver.faults = {1: Fault(429, {"Retry-After": "4000"})}
    for number in range(3):
        enqueue(outbox, f"msg_{number}", "{}", [busy], NOW)
    answer = round_(outbox, [busy], clock)
    assert (answer.sent, answer.failed, len(receiver.got)) == (0, 1, 1)
    assert [one.message_id for one in outbox.due(NOW + 3999, 9)] == ["msg_1", "msg_2"]
    assert len(outbox.due(NOW + 4000, 9)) == 3


def test_an_endpoint_that_is_gone_gets_no_more(receiver, outbox, clock):
    one = endpoint(receiver)
    receiver.faults = {1: Fault(410)}
    for number in range(3):
        enqueue(outbox, f"msg_{number}", "{}", [one], NOW)
    answer = round_(outbox, [one], clock)
    assert answer.gone == ["crm"]
    assert len(receiver.got) == 1
    assert len(outbox.dead()) == 3


def test_one_endpoint_down_does_not_keep_another_waiting(receiver, outbox, clock):
    there, away = endpoint(receiver), Endpoint("away", "http://127.0.0.1:9/hook", (SECRET,))
    enqueue(outbox, "msg_1", "{}", [away, there], NOW)
    answer = round_(outbox, [away, there], clock)
    assert (answer.sent, answer.failed) == (1, 1)
    assert [one.endpoint for one in outbox.due(NOW + 10, 9)] == ["away"]


def test_a_redirect_is_a_failure(receiver, outbox, clock):
    one = endpoint(receiver)
    receiver.faults = {1: Fault(302, {"Location": "https://elsewhere.example.com"})}
    enqueue(outbox, "msg_1", "{}", [one], NOW)
    assert round_(outbox, [one], clock).failed == 1


@pytest.mark.parametrize(
    ("found", "may"),
    [(["93.184.216.34"], True), (["10.0.0.8"], False), (["93.184.216.34", "127.0.0.1"], False), ([], False),
     (["169.254.169.254"], False), (["fd00::1"], False), (["::1%lo"], False), (["2606:2800:220:1::1"], True)],
)  # fmt: skip
def test_addresses_inside_the_network_are_not_called(receiver, outbox, clock, found, may):
    judge = outside(lambda host: found)
    assert judge("https://hooks.example.com/x") is may
    one = endpoint(receiver)
    enqueue(outbox, "msg_1", "{}", [one], NOW)
    round_(outbox, [one], clock, allowed=judge)
    assert len(receiver.got) == may


@pytest.mark.parametrize(
    ("address", "secrets"),
    [("http://crm.example.com", (SECRET,)), ("https://crm.example.com", ()), ("https://x", ("weak",))],
)
def test_an_endpoint_that_would_not_be_safe_is_refused(address, secrets):
    with pytest.raises(InvalidSetting):
        Endpoint("crm", address, secrets)
    assert SECRET not in repr(Endpoint("crm", "https://x", (SECRET,)))


def test_the_body_says_what_a_crm_shows_and_no_more():
    model = ModelReference(name="demo", version="1", bundle="sha256:0")
    score = Score(
        lead_id="7", as_of="2026-05-28T00:00:00Z", status="not_scored", horizon_days=30, model=model
    )
    document = json.loads(score_changed(score, NOW))
    assert document["type"] == "score.changed"
    assert document["timestamp"] == "2026-05-28T20:26:40Z"
    assert document["data"]["score"] is None
    assert set(document["data"]) == {
        "lead_id", "status", "score", "grade", "readiness", "reasons", "next_action", "as_of",
    }  # fmt: skip


# In -------------------------------------------------------------------------------------------------------------


def event(what, occurred=NOW, number=7, **other):
    return {
        "subscriptionType": what,
        "objectId": number,
        "occurredAt": 1000 * occurred + 7,
        "eventId": 1,
    } | other


def read(*events, now=NOW + 5):
    return read_hubspot(json.dumps(events).encode(), now)


def test_events_of_hubspot_become_changes():
    news = read(
        event("contact.propertyChange", NOW - 9, propertyName="jobtitle", propertyValue="CEO"),
        event("contact.creation", NOW - 20),
        event("contact.deletion", number=8),
        event("contact.privacyDeletion", number=9),
        event("contact.merge", number=3, primaryObjectId=3, mergedObjectIds=[1, 2]),
        event("deal.propertyChange", number=5, propertyName="dealstage", propertyValue="closedwon"),
        event("company.creation"),
    )
    assert news.changes == (("7", AttributeChange("jobtitle", "CEO", NOW - 9, NOW + 5)),)
    assert news.created == (("7", NOW - 20),)
    assert (news.deleted, news.erase, news.deals) == (("8",), ("9",), ("5",))
    assert news.merged == (("1", "3"), ("2", "3"))
    assert news.ignored == 1


def test_the_generic_form_says_the_same():
    plain = event("contact.propertyChange", propertyName="country", propertyValue=None)
    generic = plain | {"subscriptionType": "object.propertyChange", "objectTypeId": "0-1"}
    assert read(plain) == read(generic)
    assert read(plain).changes[0][1].value == ""


def test_twice_and_in_any_order_is_once_and_in_order():
    first = event("contact.propertyChange", NOW - 9, propertyName="jobtitle", propertyValue="CEO")
    second = event("contact.propertyChange", NOW - 3, propertyName="jobtitle", propertyValue="CFO")
    assert read(second, first, second) == read(first, second)
    assert [change.value for _, change in read(second, first).changes] == ["CEO", "CFO"]


def test_a_fact_of_the_future_is_not_known_before_it_happens():
    ((_, change),) = read(
        event("contact.propertyChange", NOW + 60, propertyName="a", propertyValue="b")
    ).changes
    assert change.known == change.occurred == NOW + 60


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"1", b"[" * 10**5, b"\xff"])
def test_a_body_that_is_no_array_is_refused(body):
    with pytest.raises(InvalidDocument):
        read_hubspot(body, NOW)


junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
fields = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("subscriptionType", "objectId", "occurredAt", "propertyName", "mergedObjectIds"), junk
    ),
)


@given(st.lists(st.one_of(junk, fields), max_size=4))
@settings(max_examples=50, deadline=None)
def test_no_event_however_broken_takes_down_the_others(events):
    good = event("contact.propertyChange", propertyName="jobtitle", propertyValue="CEO")
    news = read(*events, good)
    assert ("7", AttributeChange("jobtitle", "CEO", NOW, NOW + 5)) in news.changes
