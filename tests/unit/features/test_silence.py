"""What each feature does while a lead is silent: the claim of `silence_direction`, held against the fold itself."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histories import CATALOG, CUTOFFS, PROBES, events, probe
from predictive_scoring.features.aggregates import AGGREGATES, Value
from predictive_scoring.features.definitions import AttributeFeature, EventFeature
from predictive_scoring.features.filters import EventFilter
from predictive_scoring.features.online import feature_values, history
from predictive_scoring.features.silence import model_features, silence_direction, sums_to_check
from predictive_scoring.schema import Event, Lead
from predictive_scoring.timeline import DAY

NEVER_NEGATIVE = ("duration_seconds",)
WINDOWS = (None, 1, 7 * DAY, 30 * DAY)


def every_aggregate() -> Iterable[EventFeature]:
    """Each aggregate with and without a window, over columns that may and may not be negative."""
    for name, aggregate in AGGREGATES.items():
        for window in WINDOWS:
            if name == "trend" and window is None:
                continue
            columns = ("amount", "duration_seconds") if aggregate.needs_column else (None,)
            for column in columns:
                yield probe(
                    name,
                    "page_view",
                    alias="probed",
                    window=window,
                    column=column,
                    half_life=3 * DAY if name == "decayed" else None,
                    numerator=("call",) if name == "rate" else (),
                    where=(EventFilter("topic", ("pricing",)),) if name == "share" else (),
                    prior=0.2 if name == "rate" else 0.0,
                    strength=2.0 if name == "rate" else 0.0,
                )


FEATURES = tuple({one.name: one for one in (*every_aggregate(), *PROBES, *CATALOG)}.values())


def silent(lead: Lead, cutoff: int, later: int) -> Lead:
    """The lead without what becomes visible from `cutoff` to `later`, whenever it occurred."""
    before = {event.event_id for _, event in history(lead, cutoff)}
    after = {event.event_id for _, event in history(lead, later)}
    kept = tuple(event for event in lead.events if event.event_id not in after - before)
    return replace(lead, created=min(lead.created, cutoff - 1), events=kept)


def worst(value: Value, sign: int) -> float:
    """A missing value counts as the least favourable one of a column with a direction."""
    return -sign * float("inf") if value is None else float(value)


@settings(max_examples=60, deadline=None, print_blob=True)
@given(drawn=events("L"), seconds=st.integers(1, 200 * DAY) | st.sampled_from((1, DAY, 7 * DAY, 30 * DAY)))
def test_a_silent_lead_moves_every_feature_as_it_is_said_to(drawn: tuple[Event, ...], seconds: int) -> None:
    cutoff = CUTOFFS[0]
    later = cutoff + seconds
    lead = silent(Lead("L", cutoff - 400 * DAY, {}, drawn), cutoff, later)
    before, after = (feature_values(lead, at, FEATURES) for at in (cutoff, later))
    for feature in FEATURES:
        was, now = before[feature.name], after[feature.name]
        told = f"{feature.name}: {was!r} became {now!r} after {seconds} s"
        match silence_direction(feature, never_negative=NEVER_NEGATIVE):
            case "falls":
                assert worst(now, 1) <= worst(was, 1), told
            case "rises":
                assert worst(now, -1) >= worst(was, -1), told
            case "constant":
                assert now == was, told


def test_what_may_do_anything_is_seen_to_rise_and_to_fall() -> None:
    """No feature is set aside without need."""
    chance = random.Random(20261122)
    unsure = {
        one.name: one
        for one in every_aggregate()
        if one.window == 30 * DAY and silence_direction(one, never_negative=NEVER_NEGATIVE) == "anything"
    }
    assert {one.aggregate for one in unsure.values()} == {
        *("gap", "repeat", "mean", "share", "rate", "latest", "trend", "sum", "days_since_first")
    }
    seen: dict[str, set[str]] = {name: set() for name in unsure}
    for _ in range(400):
        drawn = tuple(
            Event(
                f"e{number}",
                chance.choice(("page_view", "page_view", "call")),
                at := CUTOFFS[0] - chance.randrange(1, 40 * DAY),
                at,
                {
                    "topic": chance.choice(("pricing", "else")),
                    "amount": chance.choice((-2.0, 1.0, 5.0)),
                    "duration_seconds": chance.choice((1.0, 1.0, 9.0)),
                },
            )
            for number in range(chance.randrange(2, 7))
        )
        lead = Lead("L", CUTOFFS[0] - 400 * DAY, {}, drawn)
        later = CUTOFFS[0] + chance.randrange(1, 30 * DAY)
        before, after = (feature_values(lead, at, tuple(unsure.values())) for at in (CUTOFFS[0], later))
        for name, found in seen.items():
            was, now = before[name], after[name]
            if was != now and unsure[name].kind == "category":
                found |= {"rises", "falls"}
            elif was is not None and now is not None and was != now:
                found.add("rises" if float(now) > float(was) else "falls")
    assert {name: found for name, found in seen.items() if len(found) < 2} == {}


def test_the_model_reads_what_cannot_rise_with_the_direction_that_silence_implies() -> None:
    count = probe("count", window=7 * DAY)
    ever = replace(probe("ever", "email_unsubscribe"), direction="lowers")
    since = probe("days_since")
    falling_unsubscribes = replace(probe("count", "email_unsubscribe", window=7 * DAY), direction="lowers")
    rising_raises = replace(probe("days_since", "call"), direction="raises")
    mean = probe("mean", column="amount", window=7 * DAY)
    size = AttributeFeature("size", "number", "Size", "Size", direction="raises")
    given_features = (count, ever, since, falling_unsubscribes, rising_raises, mean, size)
    kept, directions, aside = model_features(given_features, may_raise=False)
    assert kept == (count, ever, since, size)
    assert directions == {count.name: 1, ever.name: -1, since.name: -1, "size": 1}
    assert aside[mean.name] == "may rise while a lead is silent: a mean over a window of 7 days"
    assert "declared to lower" in aside[falling_unsubscribes.name]
    assert "declared to raise" in aside[rising_raises.name]
    kept, directions, aside = model_features(given_features, may_raise=True)
    assert kept == given_features
    assert directions == {ever.name: -1, falling_unsubscribes.name: -1, rising_raises.name: 1, "size": 1}
    assert aside == {}


@pytest.mark.parametrize(
    ("where", "never_negative", "moves"),
    [
        ((), (), "anything"),
        ((), ("amount",), "falls"),
        ((), ("other",), "anything"),
        ((EventFilter("amount", low=0.0),), (), "falls"),
        ((EventFilter("amount", low=-1.0),), (), "anything"),
        ((EventFilter("amount", high=5.0),), (), "anything"),
        ((EventFilter("pages", low=0.0),), (), "anything"),
    ],
)
def test_a_windowed_sum_falls_only_where_nothing_in_it_is_negative(
    where: tuple[EventFilter, ...], never_negative: tuple[str, ...], moves: str
) -> None:
    windowed = probe("sum", column="amount", window=7 * DAY, where=where)
    assert silence_direction(windowed, never_negative=never_negative) == moves
    assert silence_direction(replace(windowed, window=None)) == "constant"
    assert sums_to_check(
        (windowed, replace(windowed, window=None), probe("max", column="pages", window=1))
    ) == ("amount",)


def test_of_the_shipped_views_few_features_may_rise_in_silence_and_each_has_a_safe_counterpart() -> None:
    columns = {one.column for one in CATALOG if one.column}
    kept, _, aside = model_features(CATALOG, may_raise=False, never_negative=columns)
    safe = {(one.aggregate, one.events, one.numerator, one.where, one.column) for one in kept}
    for one in CATALOG:
        if one.name in aside and one.aggregate != "trend":
            assert (one.aggregate, one.events, one.numerator, one.where, one.column) in safe, one.name
    assert len(aside) < len(CATALOG) / 5
