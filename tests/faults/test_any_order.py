"""The same events in any order, any number of times, in any batches: the same histories and the same scores."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving.admission import AdmissionSettings
from serving.state import Serving

from doors import Door
from predictive_scoring.keeping.store.histories import read_leads
from predictive_scoring.keeping.store.opening import open_store
from predictive_scoring.live.stored import score_stored
from predictive_scoring.timeline import DAY, format_instant

if TYPE_CHECKING:
    from conftest import SmallProject
    from predictive_scoring.keeping.store.connection import Store
    from predictive_scoring.schema import AttributeChange

LEADS = ("ada", "bo")
TITLES = ("IT Manager", "Student", None)


@dataclass(frozen=True)
class Telling:
    """One call of the CRM about a lead, `at` seconds after the table's end; beyond the tables lies the future, too."""

    number: int
    lead: str
    kind: str
    at: int
    value: int

    def item(self, prefix: str, until: int) -> dict[str, Any]:
        """As Segment's libraries send it, under ids that begin with `prefix`."""
        item: dict[str, Any] = {
            "messageId": f"{prefix}{self.number}",
            "timestamp": format_instant(until + self.at),
        }
        if self.kind == "traits":
            # Few values, so that many are told again, with others between.
            title = TITLES[self.value % len(TITLES)]
            traits = {"title": title, "company_size": 100 * (self.value % 2)}
            return {**item, "type": "identify", "userId": prefix + self.lead, "traits": traits}
        item |= {"type": "track", "event": ("pricing_view", "email_open", "webinar_attend")[self.value % 3]}
        if self.kind == "anonymous":
            return {**item, "anonymousId": f"{prefix}{self.lead}-browser"}
        named = {"anonymousId": f"{prefix}{self.lead}-browser"} if self.kind == "seen" else {}
        return {**item, **named, "userId": prefix + self.lead, "properties": {"duration_seconds": self.value}}


@st.composite
def tellings(draw: st.DrawFn) -> list[Telling]:
    """What a CRM knows of two leads: each is introduced, and everything happened at an instant of its own."""
    count = draw(st.integers(3, 14))
    # Late by months, and ahead by as much: what lies ahead counts when its time has come.
    times = draw(st.lists(st.integers(-120 * DAY, -DAY), min_size=count, max_size=count, unique=True))
    kinds = st.sampled_from(("event", "event", "seen", "anonymous", "traits"))
    return [
        Telling(number, draw(st.sampled_from(LEADS)), draw(kinds), at, draw(st.integers(0, 60)))
        for number, at in enumerate(times)
    ]


@st.composite
def deliveries(draw: st.DrawFn) -> list[list[int]]:
    """Batches of places in a list: any order and any repetition, everything at least once."""
    places = draw(st.permutations(range(18)))
    again = draw(st.lists(st.integers(0, 17), max_size=12))
    mixed = draw(st.permutations([*places, *again]))
    cuts = sorted(draw(st.lists(st.integers(1, len(mixed)), max_size=6)))
    return [
        list(mixed[start:end]) for start, end in itertools.pairwise([0, *cuts, len(mixed)]) if end > start
    ]


@pytest.fixture(scope="module")
def door(small_champion: SmallProject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('order') / 'store.db'}")
    made = Door(store, AdmissionSettings(rate=1e6, burst=10**6))
    state = made.app.state.serving
    state.project, state.serving = small_champion.loaded.project, Serving(small_champion.scorer, store)
    yield made
    made.close()
    store.close()


prefixes = (f"{number}:" for number in itertools.count())


def _told(door: Door, all_items: Sequence[Telling], batches: Sequence[Sequence[int]], until: int) -> str:
    """Send everything in these batches, as leads of their own; the prefix of their ids."""
    prefix = next(prefixes)
    introduced = [
        {
            "type": "identify",
            "messageId": f"{prefix}{lead}",
            "userId": prefix + lead,
            "timestamp": format_instant(until - 200 * DAY),
            "traits": {"createdAt": format_instant(until - 150 * DAY), "country": "DE"},
        }
        for lead in LEADS
    ]
    items = [*introduced, *(telling.item(prefix, until) for telling in all_items)]
    seen: set[int] = set()
    for batch in batches:
        places = [place for place in batch if place < len(items)]
        answer = door.ask("POST", "/v1/events", json={"batch": [items[place] for place in places]})
        document = answer.json()
        assert answer.status_code == 200, answer.text
        assert document["accepted"] + document["duplicates"] == len(places), document
        seen.update(places)
    assert seen == set(range(len(items)))
    return prefix


def _steps(changes: Sequence[AttributeChange]) -> list[tuple[str, int, str]]:
    """When each attribute took another value. One that is told again later is kept or not, and says nothing new."""
    ordered = sorted((change.attribute, change.occurred, change.value) for change in changes)
    pairs = itertools.pairwise([("", 0, ""), *ordered])
    return [step for before, step in pairs if (before[0], before[2]) != (step[0], step[2])]


def _history(store: Store, prefix: str, project: Any) -> dict[str, Any]:
    """What the store knows of the two leads, without when it was told."""
    ids = [prefix + lead for lead in LEADS]
    found = store.read(lambda tx: read_leads(tx, ids, project))
    return {
        lead_id.removeprefix(prefix): (
            lead.created,
            dict(lead.attributes),
            sorted(
                (event.occurred, event.event_id.removeprefix(prefix), event.event_type, str(event.properties))
                for event in lead.events
            ),
            _steps(lead.changes),
        )
        for lead_id, lead in found.items()
    }


def _scores(store: Store, prefix: str, champion: SmallProject, as_of: int) -> dict[str, Any]:
    ids = [prefix + lead for lead in LEADS]
    scored = score_stored(store, champion.scorer, ids, as_of)
    documents = {one: scored.of(one) for one in ids}
    return {
        one.removeprefix(prefix): None if found is None else found.score.model_dump(exclude={"lead_id"})
        for one, found in documents.items()
    }


def _is_the_same(
    door: Door, champion: SmallProject, told: list[Telling], orders: Sequence[list[list[int]]], ahead: int
) -> None:
    now = int(time.time())
    # Some of what is told lies ahead of today.
    until = now + ahead * DAY
    one, two = (_told(door, told, order, until) for order in orders)
    history = _history(door.store, one, champion.loaded.project)
    assert history == _history(door.store, two, champion.loaded.project)
    assert history.keys() == set(LEADS)
    # Within what was told, and when all of it has happened.
    for as_of in (now + DAY, until + DAY):
        assert _scores(door.store, one, champion, as_of) == _scores(door.store, two, champion, as_of)


# The champion is the same for all examples, and every example has leads of its own.
SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
AHEAD = st.integers(2, 90)


@settings(SHARED, max_examples=40)
@given(tellings(), st.tuples(deliveries(), deliveries()), AHEAD)
def test_any_order_any_repetition_and_any_batches_tell_the_same(
    door: Door, small_champion: SmallProject, told: list[Telling], orders: Any, ahead: int
) -> None:
    _is_the_same(door, small_champion, told, orders, ahead)


@pytest.mark.trial
@settings(SHARED, max_examples=600)
@given(tellings(), st.tuples(deliveries(), deliveries()), AHEAD)
def test_the_same_at_length(
    door: Door, small_champion: SmallProject, told: list[Telling], orders: Any, ahead: int
) -> None:
    _is_the_same(door, small_champion, told, orders, ahead)
