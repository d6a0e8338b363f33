"""One contract for every engine: the expression it runs equals the fold, edges included."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from histories import CUTOFFS, FEATURES, PROPERTIES, probe, worlds
from predictive_scoring.data.engines import Engine, connect_duckdb
from predictive_scoring.features.aggregates import Value
from predictive_scoring.features.batch import feature_table, weekly_count_table
from predictive_scoring.features.definitions import EventFeature
from predictive_scoring.features.online import WeekCounter, feature_values, seen_events
from predictive_scoring.schema import LEAD_CREATED, Event, Lead
from predictive_scoring.timeline import DAY, WEEK

GAPS: Mapping[str, frozenset[str]] = {}
"""Aggregates by engine that are known to differ. There are none; an entry must fail, or the suite does."""

FAMILIES = (frozenset({"page_view", "call"}), frozenset({"pricing_view"}), frozenset({"call"}))
WEEKS = 26


def random_leads(examples: int) -> list[Lead]:
    """Leads of many drawn worlds together, always the same ones: a query on Spark costs a second, so one large
    example does the work of many small ones."""
    drawn: list[Lead] = []

    @settings(
        max_examples=examples,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(leads=worlds())
    def collect(leads: list[Lead]) -> None:
        world = f"@{len(drawn)}"
        drawn.extend(
            replace(
                lead,
                lead_id=lead.lead_id + world,
                events=tuple(event._replace(event_id=event.event_id + world) for event in lead.events),
            )
            for lead in leads
        )

    collect()
    return drawn


def event_rows(leads: Sequence[Lead]) -> pd.DataFrame:
    """The canonical event table of the leads, `lead_created` included."""
    rows = [
        (lead.lead_id, event)
        for lead in leads
        for event in (
            Event(f"{LEAD_CREATED}:{lead.lead_id}", LEAD_CREATED, lead.created, lead.created),
            *lead.events,
        )
    ]
    return pd.DataFrame(
        {
            "lead_id": pd.array([lead for lead, _ in rows], dtype="str"),
            "event_id": pd.array([event.event_id for _, event in rows], dtype="str"),
            "event_type": pd.array([event.event_type for _, event in rows], dtype="str"),
            "occurred": pd.array([event.occurred for _, event in rows], dtype="int64"),
            "known": pd.array([event.known for _, event in rows], dtype="int64"),
            **{
                name: pd.array(
                    [event.properties.get(name) for _, event in rows],
                    dtype="Float64" if kind == "float64" else "str",
                )
                for name, kind in PROPERTIES.items()
            },
        }
    )


class Reading:
    """Leads put into an engine the way in which file sources come there, and read at each cutoff."""

    def __init__(self, engine: Engine, leads: Sequence[Lead], cutoffs: Sequence[int]) -> None:
        reader = connect_duckdb()
        reader.create_table("events", event_rows(leads))
        self.engine, self.events = engine, engine.adopt(reader, "events")
        reader.disconnect()
        self.pairs = [(lead, cutoff) for lead in leads for cutoff in cutoffs]
        self.observations = pd.DataFrame(
            {
                "observation_id": range(len(self.pairs)),
                "lead_id": pd.array([lead.lead_id for lead, _ in self.pairs], dtype="str"),
                "cutoff": pd.array([cutoff for _, cutoff in self.pairs], dtype="int64"),
            }
        )

    def values(self, features: Sequence[EventFeature]) -> list[dict[str, Value]]:
        """Every feature by name, for each pair."""
        with self.engine.temporary("observations", self.observations) as observed:
            frame = feature_table(observed, self.events, features).to_pandas()
        frame = frame.set_index("observation_id").loc[self.observations["observation_id"]]
        plain = frame.astype(object).where(frame.notna(), None)
        return [dict(zip(plain.columns, row, strict=True)) for row in plain.to_numpy()]

    def weekly(self) -> list[list[list[int]]]:
        counts = [[[0] * len(FAMILIES) for _ in range(WEEKS)] for _ in self.pairs]
        with self.engine.temporary("observations", self.observations) as observed:
            frame = weekly_count_table(observed, self.events, FAMILIES, WEEKS).to_pandas()
        for row in frame.to_dict("records"):
            counts[row["observation_id"]][row["week"]][row["family"]] += row["events"]
        return counts


@pytest.fixture(scope="module")
def histories() -> list[Lead]:
    return random_leads(60)


@pytest.fixture(scope="module")
def reading(engine: Engine, histories: list[Lead]) -> Reading:
    return Reading(engine, histories, CUTOFFS)


def differing(reading: Reading, features: Sequence[EventFeature]) -> dict[str, list[str]]:
    """Where the two readings differ, by aggregate. Numbers may differ by 1e-9 of what was added up."""
    found: dict[str, list[str]] = {}
    aggregates = {feature.name: feature.aggregate for feature in features}
    for (lead, cutoff), expressed in zip(reading.pairs, reading.values(features), strict=True):
        folded = feature_values(lead, cutoff, features)
        assert folded.keys() == expressed.keys()
        size = 1.0 + math.fsum(abs(event.properties.get("amount") or 0.0) for event in lead.events)
        for name, value in folded.items():
            other = expressed[name]
            if value is None or other is None or isinstance(value, str):
                same = value == other
            else:
                same = abs(float(value) - float(other)) <= 1e-9 * max(abs(float(value)), size)
            if not same:
                found.setdefault(aggregates[name], []).append(
                    f"{name} of {lead.lead_id!r} at {cutoff}: fold {value!r}, engine {other!r}"
                )
    return found


def test_every_feature_of_random_histories_equals_its_fold(reading: Reading, engine: Engine) -> None:
    assert len(reading.pairs) > 300
    assert sum(len(lead.events) for lead, _ in reading.pairs) > 1000
    found = differing(reading, FEATURES)
    assert set(found) == GAPS.get(engine.name, frozenset()), found


def test_weekly_counts_of_random_histories_equal_their_fold(reading: Reading) -> None:
    count = WeekCounter(FAMILIES, WEEKS)
    for (lead, cutoff), expressed in zip(reading.pairs, reading.weekly(), strict=True):
        assert count(seen_events(lead, cutoff), cutoff) == expressed, (lead.lead_id, cutoff)


# ---------------------------------------------------------------------------------------------------------------
# Edges, with the answers written out.

CUTOFF = CUTOFFS[0]
COUNT = probe("count", window=30 * DAY)
EVER = probe("ever")
SINCE = probe("days_since")
LATEST = probe("latest", column="topic")
DISTINCT = probe("distinct", column="topic")
SUM = probe("sum", column="amount")
MEAN = probe("mean", column="amount")
MAX = probe("max", column="amount")
DECAYED = probe("decayed", half_life=1 * DAY)
LONG = "x" * 70
TWINS = tuple(replace(probe("count", window=days * DAY), alias=f"{LONG}_{days}d") for days in (1, 30))
EDGES = (COUNT, EVER, SINCE, LATEST, DISTINCT, SUM, MEAN, MAX, DECAYED, *TWINS)


def seen(event_id: str, age: int, known: int | None = None, **properties: object) -> Event:
    at = CUTOFF - age
    return Event(event_id, "page_view", at, at if known is None else known, properties)


def lead_with(lead_id: str, *events: Event) -> Lead:
    return Lead(lead_id, CUTOFF - 100 * DAY, {}, events)


NOTHING = {COUNT: 0, EVER: 0, SINCE: None, LATEST: None, DISTINCT: 0, MEAN: None, MAX: None}
CASES: dict[str, tuple[Lead, dict[EventFeature, Value]]] = {
    "no event": (lead_with("none"), {**NOTHING, SUM: 0.0, DECAYED: 0.0}),
    "at the cutoff": (lead_with("zero", seen("z", 0, topic="a", amount=1.0)), NOTHING),
    "a second before": (lead_with("one", seen("o", 1)), {COUNT: 1, EVER: 1, SINCE: 1 / DAY}),
    "a window before": (lead_with("w", seen("w1", 30 * DAY)), {COUNT: 1, SINCE: 30.0}),
    "a second more": (lead_with("w+1", seen("w2", 30 * DAY + 1)), {COUNT: 0, EVER: 1}),
    "known at the cutoff": (lead_with("late", seen("l", DAY, known=CUTOFF)), NOTHING),
    "known just in time": (lead_with("in time", seen("i", DAY, known=CUTOFF - 1)), {COUNT: 1}),
    "known before it occurred": (lead_with("early", seen("p", DAY, known=0)), {COUNT: 1}),
    # By code point "B" < "a" < "é" < "ﬀ" < "🦊"; languages and UTF-16 order them otherwise.
    "tie of upper and lower case": (
        lead_with("tie", seen("a", DAY, topic="small"), seen("B", DAY, topic="large")),
        {LATEST: "small", DISTINCT: 2},
    ),
    "tie beyond the first plane": (
        lead_with("fox", seen("🦊", DAY, topic="fox"), seen("ﬀ", DAY, topic="ligature")),
        {LATEST: "fox"},
    ),
    "tie with an accent": (
        lead_with("accent", seen("z1", DAY, topic="z"), seen("é", DAY, topic="accent")),
        {LATEST: "accent"},
    ),
    "tie where the greatest id says nothing": (
        lead_with("null", seen("n1", DAY, topic="said"), seen("n2", DAY, topic=None)),
        {LATEST: "said", DISTINCT: 1},
    ),
    "no value": (
        lead_with("empty", seen("e1", DAY, topic=None, amount=None)),
        {LATEST: None, DISTINCT: 0, SUM: 0.0, MEAN: None, MAX: None},
    ),
    "the empty text is a value": (lead_with("''", seen("e2", DAY, topic="")), {LATEST: "", DISTINCT: 1}),
    "composed and decomposed letters differ": (
        lead_with("e\u0301", seen("c1", DAY, topic="é"), seen("c2", 2 * DAY, topic="e\u0301")),
        {LATEST: "é", DISTINCT: 2},
    ),
    "ids that look alike": (lead_with("é", seen("c3", DAY, topic="own")), {COUNT: 1, LATEST: "own"}),
    "quotes, percent, newline": (
        lead_with("'\"%s\\\n;--", seen("q'\"", DAY, topic="%(x)s\\N\n,\"'")),
        {COUNT: 1, LATEST: "%(x)s\\N\n,\"'"},
    ),
    "huge and tiny numbers": (
        lead_with("huge", seen("h1", DAY, amount=1e300), seen("h2", DAY, amount=5e-324)),
        {SUM: 1e300, MEAN: 5e299, MAX: 1e300},
    ),
    "both zeros": (
        lead_with("zeros", seen("0", DAY, amount=-0.0), seen("00", DAY, amount=0.0)),
        {SUM: 0.0, MAX: 0.0, MEAN: 0.0},
    ),
    # 2^-3000 is no double: PostgreSQL would refuse to compute it.
    "long ago": (lead_with("old", seen("old", 3000 * DAY)), {DECAYED: 0.0, EVER: 1}),
    "before 1970": (lead_with("1969", seen("69", CUTOFF + 1, topic="moon")), {LATEST: "moon", COUNT: 0}),
}


@pytest.fixture(scope="module")
def edges(engine: Engine) -> dict[str, dict[str, Value]]:
    leads = [lead for lead, _ in CASES.values()]
    return dict(zip(CASES, Reading(engine, leads, [CUTOFF]).values(EDGES), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_edges(edges: dict[str, dict[str, Value]], case: str) -> None:
    lead, expected = CASES[case]
    answers = edges[case]
    folded = feature_values(lead, CUTOFF, EDGES)
    for feature, value in expected.items():
        assert answers[feature.name] == value, feature.name
        assert folded[feature.name] == value, feature.name


def test_features_whose_long_names_differ_at_the_end_only_keep_apart(
    edges: dict[str, dict[str, Value]],
) -> None:
    day, month = (feature.name for feature in TWINS)
    answers = edges["a window before"]
    assert (answers[day], answers[month]) == (0, 1)


def test_a_week_ends_with_its_last_second(engine: Engine) -> None:
    lead = lead_with("weeks", *(seen(f"w{age}", age) for age in (0, 1, WEEK, WEEK + 1, WEEKS * WEEK + 1)))
    [counts] = Reading(engine, [lead], [CUTOFF]).weekly()
    assert [row[0] for row in counts] == [0] * (WEEKS - 2) + [1, 2]
