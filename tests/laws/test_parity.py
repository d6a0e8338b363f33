"""One definition, two readings: the fold and the expression agree, and both agree with the law of time."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histories import CATALOG, CUTOFFS, FEATURES, INSTANTS, PROBES, Engine, events, worlds
from predictive_scoring.data.engines import Duckdb, connect_duckdb
from predictive_scoring.data.feature_frame import feature_frame
from predictive_scoring.features.aggregates import AGGREGATES, Value
from predictive_scoring.features.definitions import AttributeFeature, EventFeature
from predictive_scoring.features.filters import EventFilter
from predictive_scoring.features.online import WeekCounter, feature_values, seen_events
from predictive_scoring.features.transforms import shipped_transforms
from predictive_scoring.schema import AttributeChange, Event, Lead
from predictive_scoring.timeline import DAY, WEEK

FAMILIES = (
    frozenset({"page_view", "call"}),
    frozenset({"pricing_view"}),
    frozenset[str](),
    frozenset({"call"}),
)
LAW = settings(max_examples=25, deadline=None, print_blob=True)
SENIORITY = shipped_transforms()["seniority"]
BY_NAME = {feature.name: feature for feature in FEATURES}


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Read in passes, as a dataset is."""
    return Engine(FEATURES, FAMILIES, span=(CUTOFFS[0], CUTOFFS[-1]))


@pytest.fixture(scope="module")
def lean() -> Engine:
    """Every aggregate, without the catalog: four times as quick, for laws that read before and after."""
    return Engine(PROBES, FAMILIES)


@pytest.fixture(scope="module")
def duckdb() -> Duckdb:
    return Duckdb(connect_duckdb())


def slack(feature: EventFeature, lead: Lead) -> float:
    """Sums of arbitrary floats depend on the order of adding; everything else is exact."""
    if feature.aggregate not in ("sum", "mean") or feature.column != "amount":
        return 0.0
    return 1e-12 * math.fsum(abs(event.properties.get("amount") or 0.0) for event in lead.events)


def assert_same(lead: Lead, cutoff: int, folded: Mapping[str, Value], expressed: Mapping[str, Value]) -> None:
    assert folded.keys() == expressed.keys()
    for name, value in folded.items():
        other = expressed[name]
        where = f"{name} of {lead.lead_id!r} at {cutoff}: fold {value!r}, expression {other!r}, {lead.events}"
        if value is None or other is None or isinstance(value, str):
            assert value == other, where
        else:
            assert abs(float(value) - float(other)) <= slack(BY_NAME[name], lead), where  # type: ignore[arg-type]


def test_every_aggregate_is_held_to_this_law_with_and_without_the_catalog() -> None:
    assert {feature.aggregate for feature in PROBES} == set(AGGREGATES)
    assert {feature.name for feature in CATALOG} <= BY_NAME.keys()
    assert len(BY_NAME) == len(FEATURES)


@LAW
@given(leads=worlds())
def test_the_fold_equals_the_expression_for_every_feature(engine: Engine, leads: list[Lead]) -> None:
    expressed = engine.read(leads)
    assert len(expressed) == len(leads) * len(CUTOFFS)
    for lead in leads:
        for cutoff in CUTOFFS:
            assert_same(lead, cutoff, feature_values(lead, cutoff, FEATURES), expressed[lead.lead_id, cutoff])


@LAW
@given(leads=worlds())
def test_weekly_counts_equal_the_weekly_count_table_and_a_count_by_hand(
    engine: Engine, leads: list[Lead]
) -> None:
    engine.fill(leads, CUTOFFS)
    count = WeekCounter(FAMILIES, engine.weeks)
    for (lead_id, cutoff), expressed in engine.weekly().items():
        lead = next(lead for lead in leads if lead.lead_id == lead_id)
        assert count(seen_events(lead, cutoff), cutoff) == expressed
        for back in range(engine.weeks):
            ages = range(back * WEEK + 1, (back + 1) * WEEK + 1)
            by_hand = [
                sum(
                    e.event_type in f and cutoff - e.occurred in ages and e.known < cutoff
                    for e in lead.events
                )
                for f in FAMILIES
            ]
            assert expressed[engine.weeks - 1 - back] == by_hand


# ---------------------------------------------------------------------------------------------------------------
# The slow, obvious truth, written from DESIGN section 4 and METHODS section 1; it calls nothing of ours.


def stays(one: EventFilter, event: Event) -> bool:
    if one.events and event.event_type not in one.events:
        return True
    moment = datetime.fromtimestamp(event.occurred, UTC)
    clock = {"hour": moment.hour, "weekday": moment.strftime("%a").lower()}
    value = clock.get(one.column, event.properties.get(one.column))
    inside = value in one.values
    if one.low is not None or one.high is not None:
        low = -math.inf if one.low is None else one.low
        inside = value is not None and low <= value <= (math.inf if one.high is None else one.high)
    return inside != one.drop


def truth(lead: Lead, cutoff: int, feature: EventFeature) -> Any:
    history = [*lead.events, Event("created", "lead_created", lead.created, lead.created)]
    window = math.inf if feature.window is None else feature.window

    def seen(types: tuple[str, ...], reach: float) -> list[Event]:
        return [
            event
            for event in sorted(history, key=lambda event: (event.occurred, event.event_id))
            if event.event_type in types
            and 0 < cutoff - event.occurred <= reach
            and event.known < cutoff
            and all(stays(one, event) for one in feature.exclude)
            and (feature.aggregate == "share" or all(stays(one, event) for one in feature.where))
        ]

    events = seen(feature.events, window)
    ages = [cutoff - event.occurred for event in events]
    values = [event.properties.get(feature.column or "") for event in events]
    present = [value for value in values if value is not None]
    match feature.aggregate:
        case "count":
            return len(events)
        case "ever":
            return float(len(events) > 0)
        case "days_since":
            return min(ages) / 86_400 if ages else None
        case "days_since_first":
            return max(ages) / 86_400 if ages else None
        case "gap":
            steps = [later - earlier for earlier, later in itertools.pairwise(sorted(ages))]
            return sum(steps) / len(steps) / 86_400 if steps else None
        case "distinct":
            return len(set(present))
        case "repeat":
            return (
                sum(value in present[:place] for place, value in enumerate(present)) / len(present)
                if present
                else None
            )
        case "sum":
            return float(sum(present))
        case "mean":
            return sum(present) / len(present) if present else None
        case "max":
            return float(max(present)) if present else None
        case "latest":
            return present[-1] if present else None
        case "share":
            hits = [
                (not feature.numerator or event.event_type in feature.numerator)
                and all(stays(one, event) for one in feature.where)
                for event in events
            ]
            return sum(hits) / len(hits) if hits else None
        case "rate":
            successes = len(seen(feature.numerator, window))
            assert feature.prior is not None
            return (successes + feature.prior * feature.strength) / (len(events) + feature.strength)
        case "trend":
            before = len(seen(feature.events, 2 * window)) - len(events)
            return (len(events) - before) / (len(events) + before + 1)
        case "decayed":
            assert feature.half_life is not None
            return sum(2 ** (-age / feature.half_life) for age in ages)
    raise AssertionError(feature.aggregate)


@LAW
@given(leads=worlds(most=6))
def test_both_readings_equal_a_brute_force_count(engine: Engine, leads: list[Lead]) -> None:
    expressed = engine.read(leads)
    for lead in leads:
        for cutoff in CUTOFFS:
            folded = feature_values(lead, cutoff, FEATURES)
            for feature in FEATURES:
                expected = truth(lead, cutoff, feature)
                close = (
                    expected
                    if expected is None or isinstance(expected, str)
                    else pytest.approx(
                        expected, rel=1e-12, abs=len(lead.events) * 1e-12 + 4 * slack(feature, lead)
                    )
                )
                assert folded[feature.name] == close, (feature, lead, cutoff)
                assert expressed[lead.lead_id, cutoff][feature.name] == close, (feature, lead, cutoff)


def at(
    age: int, kind: str = "page_view", *, known: int | None = None, name: str = "e", **properties: object
) -> Event:
    moment = CUTOFFS[0] - age
    return Event(name, kind, moment, moment if known is None else CUTOFFS[0] - known, properties)


@pytest.mark.parametrize(
    ("event", "counted"),
    [
        pytest.param(at(0), 0, id="at the cutoff"),
        pytest.param(at(1), 1, id="a second before the cutoff"),
        pytest.param(at(7 * DAY), 1, id="exactly at the start of the window"),
        pytest.param(at(7 * DAY + 1), 0, id="a second before the window"),
        pytest.param(at(-1), 0, id="after the cutoff"),
        pytest.param(at(100, known=1), 1, id="known a second before the cutoff"),
        pytest.param(at(100, known=0), 0, id="known at the cutoff"),
        pytest.param(at(100, known=-1), 0, id="known after the cutoff"),
        pytest.param(at(0, known=5), 0, id="known before, but happening at the cutoff"),
    ],
)
def test_an_event_at_an_edge_counts_as_the_design_says(engine: Engine, event: Event, counted: int) -> None:
    lead = Lead("L", CUTOFFS[0] - 400 * DAY, {}, (event,))
    name = "page_view_count_7d"
    assert feature_values(lead, CUTOFFS[0], FEATURES)[name] == counted
    assert engine.read([lead], CUTOFFS[:1])["L", CUTOFFS[0]][name] == counted


def test_of_two_events_in_the_same_second_the_greater_id_is_the_latest(engine: Engine) -> None:
    # U+FFFF sorts before U+1F98A by code point and by UTF-8, but after it by UTF-16.
    tied = (
        at(5, name="🦊", topic="fox"),
        at(5, name="\uffff", topic="last of the plane"),
        at(5, name="a", topic="a"),
    )
    for order in (tied, tied[::-1]):
        lead = Lead("L", 0, {}, (*order, at(4, name="newest", topic=None)))
        name = "page_view_or_call_topic_latest"
        assert feature_values(lead, CUTOFFS[0], FEATURES)[name] == "fox"
        assert engine.read([lead], CUTOFFS[:1])["L", CUTOFFS[0]][name] == "fox"


def test_a_lead_without_events_gets_zeros_for_counts_and_nothing_for_times(engine: Engine) -> None:
    lead = Lead("L", CUTOFFS[0], {}, ())
    for values in (
        feature_values(lead, CUTOFFS[0], FEATURES),
        engine.read([lead], CUTOFFS[:1])["L", CUTOFFS[0]],
    ):
        empty = {"count": 0, "ever": 0, "distinct": 0, "sum": 0.0, "decayed": 0.0, "trend": 0.0}
        missing = {"days_since", "days_since_first", "gap", "repeat", "share", "mean", "max", "latest"}
        for feature in FEATURES:
            if feature.aggregate != "rate":
                expected = None if feature.aggregate in missing else empty[feature.aggregate]
                assert values[feature.name] == expected, feature.name


# ---------------------------------------------------------------------------------------------------------------
# What must not matter does not.


@LAW
@given(
    leads=worlds(most=4),
    cutoff=st.sampled_from(CUTOFFS),
    extra=events("future"),
    delays=st.lists(st.tuples(st.booleans(), st.sampled_from((0, 1, 7 * DAY))), min_size=8, max_size=8),
)
def test_what_happens_or_is_learned_at_or_after_the_cutoff_changes_nothing(
    lean: Engine, leads: list[Lead], cutoff: int, extra: tuple[Event, ...], delays: list[tuple[bool, int]]
) -> None:
    unseen = tuple(
        event._replace(occurred=cutoff + delay) if happens_later else event._replace(known=cutoff + delay)
        for event, (happens_later, delay) in zip(extra, delays, strict=False)
    )
    more = [replace(leads[0], events=(*leads[0].events, *unseen)), *leads[1:]]
    assert feature_values(more[0], cutoff, FEATURES) == feature_values(leads[0], cutoff, FEATURES)
    count = WeekCounter(FAMILIES, 26)
    assert count(seen_events(more[0], cutoff), cutoff) == count(seen_events(leads[0], cutoff), cutoff)
    before, weeks_before = lean.read(leads, [cutoff]), lean.weekly()
    after = lean.read(more, [cutoff])
    for lead in leads:
        assert_same(lead, cutoff, before[lead.lead_id, cutoff], after[lead.lead_id, cutoff])
    assert lean.weekly() == weeks_before


@LAW
@given(leads=worlds(most=4), others=events("another"), created=INSTANTS)
def test_another_leads_events_change_nothing(
    lean: Engine, leads: list[Lead], others: tuple[Event, ...], created: int
) -> None:
    alone = lean.read(leads)
    together = lean.read([*leads, Lead(f"{leads[0].lead_id}-other", created, {}, others)])
    for lead in leads:
        for cutoff in CUTOFFS:
            assert_same(lead, cutoff, alone[lead.lead_id, cutoff], together[lead.lead_id, cutoff])


@LAW
@given(leads=worlds(most=6), seed=st.integers(0, 2**32))
def test_the_order_of_events_and_rows_changes_nothing(lean: Engine, leads: list[Lead], seed: int) -> None:
    shuffled = [
        replace(lead, events=tuple(random.Random(seed).sample(lead.events, len(lead.events))))
        for lead in leads
    ]
    for lead, other in zip(leads, shuffled, strict=True):
        for cutoff in CUTOFFS:
            # The fold sums exactly (fsum) and sorts, so not even the last bit may differ.
            assert feature_values(lead, cutoff, FEATURES) == feature_values(other, cutoff, FEATURES)
    forward, backward = lean.read(leads), lean.read(leads[::-1], backwards=True)
    for lead in leads:
        for cutoff in CUTOFFS:
            assert_same(lead, cutoff, forward[lead.lead_id, cutoff], backward[lead.lead_id, cutoff])


ATTRIBUTES = (
    AttributeFeature("title", "category", "Title", "Role"),
    AttributeFeature("size", "number", "Employees", "Company"),
)


@LAW
@given(
    lead=worlds(most=1).map(lambda leads: leads[0]),
    title=st.sampled_from((None, "CTO", "", True, 7)),
    size=st.sampled_from((None, 0, 12, 3.5, math.nan)),
)
def test_attributes_change_only_their_own_features(lead: Lead, title: object, size: float | None) -> None:
    named = replace(lead, attributes={"title": title, "size": size, "page_view_count_7d": 99})
    values = feature_values(named, CUTOFFS[0], (*ATTRIBUTES, *FEATURES))
    spoken = {None: None, True: "true"}.get(title, str(title))  # type: ignore[call-overload]
    assert values.pop("title") == spoken
    assert values.pop("size") == (None if size is None or math.isnan(size) else size)
    assert values == feature_values(lead, CUTOFFS[0], FEATURES)


CHANGES = st.lists(
    st.builds(
        AttributeChange,
        st.sampled_from(("title", "size")),
        st.sampled_from(("1", "2", "", "30")),
        INSTANTS,
        INSTANTS,
    ),
    max_size=8,
)
CHANGING = (
    AttributeFeature("title", "category", "Title", "Role", history=True),
    AttributeFeature("size", "number", "Employees", "Company", history=True),
    AttributeFeature("rank", "category", "Seniority", "Role", history=True, of="title", transform=SENIORITY),
    AttributeFeature("fixed", "category", "Title at creation", "Role"),
)


@LAW
@given(changes=st.lists(CHANGES, min_size=1, max_size=5))
def test_an_attribute_with_a_history_has_the_newest_value_known_before_the_cutoff(
    duckdb: Duckdb, changes: list[list[AttributeChange]]
) -> None:
    leads = [
        Lead(f"L{number}", 0, {"fixed": "as created"}, changes=tuple(history))
        for number, history in enumerate(changes)
    ]
    rows = pd.DataFrame(
        [
            (lead.lead_id, c.value, c.attribute, c.occurred, c.known, c.value)
            for lead in leads
            for c in lead.changes
        ],
        columns=["lead_id", "event_id", "event_type", "occurred", "known", "value"],
    ).astype({"occurred": "int64", "known": "int64"})
    observations = pd.DataFrame(
        [(lead.lead_id, cutoff) for lead in leads for cutoff in CUTOFFS], columns=["lead_id", "cutoff"]
    )
    observations["observation_id"] = range(len(observations))
    stored = pd.DataFrame({"lead_id": [lead.lead_id for lead in leads], "fixed": "as created"})
    texts = rows.astype(dict.fromkeys(("lead_id", "event_id", "event_type", "value"), "str"))
    with duckdb.temporary("changes", texts) as table:
        tables: Any = SimpleNamespace(engine=duckdb, attribute_changes=table, leads=stored)
        frame = feature_frame(tables, observations, CHANGING)
    for row, (lead, cutoff) in enumerate((lead, cutoff) for lead in leads for cutoff in CUTOFFS):
        obvious = {
            name: max(
                (
                    (c.occurred, c.value)
                    for c in lead.changes
                    if c.attribute == name and c.occurred < cutoff and c.known < cutoff
                ),
                default=(0, ""),
            )[1]
            or None
            for name in ("title", "size")
        }
        expected = {
            "title": obvious["title"],
            "size": None if obvious["size"] is None else float(obvious["size"]),
            "rank": SENIORITY(obvious["title"]),
            "fixed": "as created",
        }
        assert feature_values(lead, cutoff, CHANGING) == expected
        read = frame.iloc[row].to_dict()
        assert {name: None if value != value else value for name, value in read.items()} == expected
