"""Leads with random histories for the laws, and the two readings of features side by side.

Instants are drawn around the cutoffs at the edges where the law of time decides: at the cutoff, a second
before, exactly a window away and a second more. `Engine` compiles the batch reading once and swaps the rows
of its tables, so that one example of a property test costs one query.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import ibis
import pandas as pd
from hypothesis import strategies as st

from predictive_scoring.features.aggregates import Value
from predictive_scoring.features.batch import feature_table, weekly_count_table
from predictive_scoring.features.catalog import catalog
from predictive_scoring.features.definitions import EventFeature, features_of
from predictive_scoring.features.filters import EventFilter
from predictive_scoring.schema import LEAD_CREATED, Event, Lead
from predictive_scoring.timeline import DAY, WEEK

CUTOFFS = (1_772_323_200, 1_772_323_200 + WEEK, 1_772_323_200 + 37 * DAY + 1)  # 2026-03-01 and two later
PROPERTIES = {
    "duration_seconds": "float64",
    "topic": "string",
    "amount": "float64",
    "age": "string",
    "pages": "float64",
    "brand": "string",
    "capability": "string",
}

# Overall rates as if they had been learned: what the log says is no matter of these laws.
CATALOG: tuple[EventFeature, ...] = tuple(
    replace(one, prior=0.3) if one.prior is None else one
    for one in features_of(catalog().values())
    if isinstance(one, EventFeature)
)


def probe(aggregate: str, *events: str, **more: Any) -> EventFeature:
    return EventFeature(aggregate, events or ("page_view",), f"{aggregate} {more}", "probe", **more)


PRICING = EventFilter("topic", ("pricing", "Ω"))
WORKING_HOURS = EventFilter("hour", low=9, high=16)
WEEKEND = EventFilter("weekday", ("sat", "sun"))
LARGE = EventFilter("amount", low=0.2)
SMALL = EventFilter("amount", low=-10.0, high=0.2)
NOT_OLD = EventFilter("age", ("old",), drop=True)
NOT_OLD_CALLS = EventFilter("age", ("old",), drop=True, events=("call",))

# At least one per aggregate, with a window and without: the shipped catalog does not use all of them.
PROBES = (
    probe("count", window=1),
    probe("count", "page_view", "call"),
    probe("ever", "page_view", LEAD_CREATED, window=7 * DAY),
    probe("days_since", "page_view", window=30 * DAY),
    probe("distinct", "page_view", "call", column="topic"),
    probe("distinct", column="amount", window=30 * DAY),
    probe("sum", "page_view", "call", column="amount"),
    probe("sum", column="duration_seconds", window=7 * DAY),
    probe("mean", "page_view", "call", column="amount", window=90 * DAY),
    probe("mean", column="duration_seconds"),
    probe("max", column="amount"),
    probe("max", "page_view", "call", column="duration_seconds", window=14 * DAY),
    probe("latest", "page_view", "call", column="topic"),
    probe("latest", column="topic", window=7 * DAY),
    probe("latest", column="age"),
    probe("rate", "call", numerator=("page_view",), prior=0.1, strength=3.0),
    probe("rate", "email_delivered", numerator=("call",), prior=1 / 3, strength=0.7, window=30 * DAY),
    probe("trend", "page_view", "call", window=7 * DAY),
    probe("decayed", half_life=7 * DAY),
    probe("decayed", "page_view", "call", half_life=11 * 3600, window=90 * DAY),
    probe("days_since_first", "page_view", "call"),
    probe("days_since_first", window=30 * DAY),
    probe("gap", "page_view", "call"),
    probe("gap", window=90 * DAY),
    probe("repeat", "page_view", "call", column="topic"),
    probe("repeat", column="amount", window=30 * DAY),
    probe("share", "page_view", "call", numerator=("call",)),
    probe("share", "page_view", "call", where=(PRICING,), window=90 * DAY),
    probe("share", "page_view", "call", where=(WORKING_HOURS,)),
    probe("share", "page_view", "call", numerator=("page_view",), where=(WEEKEND, LARGE)),
    probe("share", where=(LARGE,), exclude=(NOT_OLD,)),
    probe("count", "page_view", "call", where=(PRICING,), window=7 * DAY),
    probe("count", "page_view", "call", alias="kept", exclude=(NOT_OLD_CALLS,)),
    probe("count", where=(WEEKEND, SMALL), exclude=(NOT_OLD,)),
    probe("ever", "page_view", "call", where=(LARGE,)),
    probe("days_since", where=(WORKING_HOURS,)),
    probe("sum", column="duration_seconds", where=(PRICING,), window=30 * DAY),
    probe("latest", "page_view", "call", column="topic", where=(SMALL,)),
    probe("distinct", column="topic", where=(WEEKEND,)),
    probe(
        "rate", "email_delivered", "page_view", numerator=("call",), prior=0.2, strength=2.0, where=(PRICING,)
    ),
    probe("trend", "page_view", "call", where=(SMALL,), window=30 * DAY),
    probe("decayed", "page_view", "call", where=(WORKING_HOURS,), half_life=30 * DAY),
)
FEATURES = (*CATALOG, *PROBES)

WINDOWS = sorted({w for f in FEATURES if f.window for w in (f.window, (f.lookback or 0))})
_EDGES = sorted({0, 1, -1, 2, -DAY, *(w + d for w in (*WINDOWS, WEEK, 26 * WEEK) for d in (-1, 0, 1))})
_AGES = st.sampled_from(_EDGES) | st.integers(-40 * DAY, 200 * DAY)
INSTANTS = st.builds(lambda cutoff, age: cutoff - age, st.sampled_from(CUTOFFS), _AGES)
TYPES = sorted({kind for feature in FEATURES for kind in feature.event_types} - {LEAD_CREATED})
_BUSY = ("page_view", "page_view", "page_view", "call", "email_delivered", "pricing_view", "undeclared_type")
TEXTS = ("L", "0012", "Ω", "é", "e\u0301", "\uffff", "🦊", "a'b\"", "", " ")
_AMOUNTS = st.sampled_from((None, 0.0, -0.0, 0.1, 0.2, 0.3, 1e9, -7.25)) | st.floats(-1e6, 1e6, width=64)
_NOTHING = st.just({})
_PROPERTIES = _NOTHING | st.fixed_dictionaries(
    {"topic": st.sampled_from((None, "", "pricing", "Ω", "no")), "amount": _AMOUNTS},
    optional={
        "duration_seconds": st.sampled_from((None, 0.0, 1.0, 5.0, 60.0)),
        "age": st.sampled_from(("young", "old")),
        "pages": st.sampled_from((None, 1.0, 2.0, 7.0)),
        "brand": st.sampled_from((None, "acme", "Ω")),
        "capability": st.sampled_from(("export", "share")),
        "undeclared": st.just("ignored"),
    },
)


@st.composite
def events(draw: st.DrawFn, name: str, *, most: int = 8) -> tuple[Event, ...]:
    """Events of one lead whose ids start with `name`; instants repeat often, so that ties are common."""
    moments = draw(st.lists(INSTANTS, min_size=0, max_size=4))
    moment = (st.sampled_from(moments) | INSTANTS) if moments else INSTANTS
    drawn = draw(
        st.lists(
            st.tuples(
                st.sampled_from(_BUSY) | st.sampled_from(TYPES),
                moment,
                st.sampled_from((0, 0, 0, 1, -1, 3 * DAY)) | st.sampled_from(CUTOFFS),
                _PROPERTIES,
                st.sampled_from(TEXTS),
            ),
            max_size=most,
        )
    )
    return tuple(
        # A small lag is counted from the event, a large number is itself the instant of knowing.
        Event(f"{text}{name}#{number}", kind, at, lag if lag > 1e9 else at + lag, properties)
        for number, (kind, at, lag, properties, text) in enumerate(drawn)
    )


@st.composite
def worlds(draw: st.DrawFn, *, most: int = 10) -> list[Lead]:
    """Leads with distinct ids, each with its own events (perhaps none)."""
    count = draw(st.integers(1, most))
    leads = []
    for number in range(count):
        lead_id = f"{draw(st.sampled_from(TEXTS))}{number}"
        leads.append(Lead(lead_id, draw(INSTANTS), {}, draw(events(lead_id))))
    return leads


class Engine:
    """The batch reading of `features` on an in-memory DuckDB, compiled once."""

    def __init__(
        self,
        features: Sequence[EventFeature],
        families: Sequence[frozenset[str]] = (),
        weeks: int = 26,
        span: tuple[int, int] | None = None,
    ) -> None:
        self.features, self.families, self.weeks = features, families, weeks
        self.connection = ibis.duckdb.connect()
        self.connection.raw_sql("SET enable_progress_bar = false")
        self.connection.raw_sql("SET threads = 1")
        observations = self.connection.create_table(
            "observations",
            schema=ibis.schema({"observation_id": "int64", "lead_id": "string", "cutoff": "int64"}),
        )
        columns = {"lead_id": "string", "event_id": "string", "event_type": "string"}
        stored = self.connection.create_table(
            "events", schema=ibis.schema({**columns, "occurred": "int64", "known": "int64", **PROPERTIES})
        )
        values = feature_table(observations, stored, features, span=span)
        self._values = str(ibis.to_sql(values, dialect="duckdb"))
        self._weekly = ""
        if families:
            weekly = weekly_count_table(observations, stored, families, weeks)
            self._weekly = str(ibis.to_sql(weekly, dialect="duckdb"))

    def _fill(self, rows: list[tuple[str, Event]], pairs: list[tuple[str, int]]) -> None:
        self.connection.raw_sql("DELETE FROM observations; DELETE FROM events")
        observed = pd.DataFrame(
            {
                "observation_id": pd.array(range(len(pairs)), dtype="int64"),
                "lead_id": pd.array([lead for lead, _ in pairs], dtype="str"),
                "cutoff": pd.array([cutoff for _, cutoff in pairs], dtype="int64"),
            }
        )
        stored = pd.DataFrame(
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
        native = self.connection.con
        for table, frame in (("observations", observed), ("events", stored)):
            native.register("incoming", frame)
            native.execute(f"INSERT INTO {table} SELECT * FROM incoming")  # noqa: S608 - our own two names
            native.unregister("incoming")

    def fill(self, leads: Iterable[Lead], cutoffs: Sequence[int], *, backwards: bool = False) -> None:
        """Make `leads` the only stored ones, observed at every cutoff; `backwards` stores rows last first."""
        leads = list(leads)
        rows = [
            (lead.lead_id, event)
            for lead in leads
            for event in (
                Event(f"{LEAD_CREATED}:{lead.lead_id}", LEAD_CREATED, lead.created, lead.created),
                *lead.events,
            )
        ]
        self.pairs = [(lead.lead_id, cutoff) for lead in leads for cutoff in cutoffs]
        self._fill(rows[::-1] if backwards else rows, self.pairs)

    def values(self) -> dict[tuple[str, int], dict[str, Value]]:
        """Every feature by name, for each (lead id, cutoff)."""
        answer = self.connection.raw_sql(self._values)
        names = [column[0] for column in answer.description][1:]
        return {self.pairs[row[0]]: dict(zip(names, row[1:], strict=True)) for row in answer.fetchall()}

    def read(
        self, leads: Iterable[Lead], cutoffs: Sequence[int] = CUTOFFS, *, backwards: bool = False
    ) -> dict[tuple[str, int], dict[str, Value]]:
        self.fill(leads, cutoffs, backwards=backwards)
        return self.values()

    def weekly(self) -> dict[tuple[str, int], list[list[int]]]:
        """Weekly counts per family, oldest week first, for each (lead id, cutoff)."""
        counts = {pair: [[0] * len(self.families) for _ in range(self.weeks)] for pair in self.pairs}
        answer = self.connection.raw_sql(self._weekly)
        at = {column[0]: number for number, column in enumerate(answer.description)}
        for row in answer.fetchall():
            week, family = row[at["week"]], row[at["family"]]
            counts[self.pairs[row[at["observation_id"]]]][week][family] += row[at["events"]]
        return counts
