"""Examples: who was observed when, what happened next, and that no period sees another's outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import ibis
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from predictive_scoring.data.censoring import censoring_weights
from predictive_scoring.data.dataset import PERIODS, _in_time, _log_pairs, observe
from predictive_scoring.data.engines import Duckdb
from predictive_scoring.data.periods import arrangement_of, in_time, lots
from predictive_scoring.data.sources import Tables
from predictive_scoring.errors import ConversionNeverOccurs, TrainingImpossible
from predictive_scoring.settings import Project, SplitSettings

LAW = settings(max_examples=80, deadline=None, print_blob=True)
START, EVERY, HORIZON, UNTIL = 1000, 100, 250, 2000
NO_TOUCHES = pd.DataFrame({name: [] for name in ("touch_id", "lead_id", "action_id", "channel", "occurred")})


@dataclass(frozen=True)
class Row:
    """A lead: when it was created, its conversions, when its window ends early, and whether it opted out."""

    created: int
    conversions: tuple[int, ...] = ()
    ends: int | None = None
    opted_out: bool | None = None


def project(
    *,
    until: bool = False,
    at_creation: bool = False,
    conversion: dict[str, object] | None = None,
    **changes: object,
) -> Project:
    cutoffs = {"at": "created_at"} if at_creation else {"first": START, "every": EVERY}
    return Project.model_validate(
        {
            "name": "demo",
            "sources": {"leads": {"path": "l.csv"}, "events": {"path": "e.csv"}},
            "events": {"won": {"label": "Won"}, "page_view": {"label": "View"}},
            "conversion": {
                "event": "won",
                "horizon": HORIZON,
                "until": "ends_at" if until else None,
                **(conversion or {}),
            },
            "cutoffs": cutoffs,
            "contact": {"opted_out": "opted_out"},
            "readiness": {"share": 0.1},
            **changes,
        }
    )


@pytest.fixture(scope="module")
def connection() -> ibis.BaseBackend:
    made = ibis.duckdb.connect()
    made.raw_sql(
        "CREATE TABLE events (lead_id VARCHAR, event_id VARCHAR, event_type VARCHAR, occurred BIGINT, known BIGINT)"
    )
    return made


def tables(
    connection: ibis.BaseBackend, rows: Sequence[Row], given: Project, observed_until: int = UNTIL
) -> Tables:
    leads = pd.DataFrame(
        {
            "lead_id": [f"L{number}" for number in range(len(rows))],
            "created": [row.created for row in rows],
            "ends_at": pd.array([row.ends for row in rows], dtype="Float64").astype("float64"),
            "opted_out": pd.Series([row.opted_out for row in rows], dtype=object),
        }
    )
    events = [
        (f"L{number}", kind, at)
        for number, row in enumerate(rows)
        for kind, moments in (("won", row.conversions), ("page_view", (row.created, 1500)))
        for at in moments
    ]
    connection.raw_sql("DELETE FROM events")
    values = ", ".join(
        f"('{lead}', '{n}', '{kind}', {at}, {at + 5})" for n, (lead, kind, at) in enumerate(events)
    )
    if events:
        connection.raw_sql(f"INSERT INTO events VALUES {values}")  # noqa: S608 - numbers and our own names
    return Tables(given, Duckdb(connection), leads, connection.table("events"), NO_TOUCHES, observed_until)


def examples(given: Tables) -> pd.DataFrame:
    """The matured examples in their periods, however few."""
    try:
        return _in_time(_log_pairs(given), given)
    except TrainingImpossible:
        return pd.DataFrame(columns=["lead_id", "cutoff", "horizon", "label", "period"])


def brute_force(
    rows: Sequence[Row], given: Project, observed_until: int
) -> dict[tuple[str, int], tuple[int, int]]:
    """Horizon and label by (lead, cutoff), from the text of DESIGN section 4; calls nothing of ours."""
    answer = {}
    for number, row in enumerate(rows):
        on_grid = given.cutoffs is not None and given.cutoffs.at is None
        for cutoff in range(START, observed_until + 1, EVERY) if on_grid else [row.created]:
            end = cutoff + HORIZON
            if given.conversion.until and row.ends is not None:
                end = min(end, row.ends)
            exists = row.created <= cutoff
            converted_before = any(at < cutoff for at in row.conversions)
            if exists and not converted_before and not row.opted_out and cutoff < end <= observed_until:
                label = int(any(cutoff <= at < end for at in row.conversions))
                answer[f"L{number}", cutoff] = (end - cutoff, label)
    return answer


EDGE = st.builds(
    lambda step, shift: START + step * EVERY + shift,
    st.integers(-3, 12),
    st.sampled_from((-1, 0, 1, HORIZON - 1, HORIZON, HORIZON + 1)) | st.integers(0, 600),
)
ROWS = st.lists(
    st.builds(
        Row,
        EDGE,
        st.just(()) | st.lists(EDGE, min_size=1, max_size=2).map(tuple),
        st.none() | EDGE,
        st.sampled_from((None, False, False, True)),
    ),
    min_size=1,
    max_size=8,
)


@LAW
@given(
    rows=ROWS,
    until=st.booleans(),
    at_creation=st.booleans(),
    observed_until=st.sampled_from((UNTIL, UNTIL + 1, UNTIL - 1, START + HORIZON, START + HORIZON - 1)),
)
def test_the_examples_and_their_labels_are_those_of_a_brute_force_count(
    connection: ibis.BaseBackend, rows: list[Row], until: bool, at_creation: bool, observed_until: int
) -> None:
    given_project = project(until=until, at_creation=at_creation)
    # One lead that converts at the very end and is no example, so that the log always has a conversion.
    rows = [*rows, Row(10**6, (10**6,))]
    read = examples(tables(connection, rows, given_project, observed_until))
    expected = brute_force(rows, given_project, observed_until)
    ordered = sorted(expected, key=lambda pair: (pair[1], pair[0]))
    period = in_time(
        pd.Series([cutoff for _, cutoff in ordered], dtype="int64"),
        pd.Series([expected[pair][0] for pair in ordered], dtype="int64"),
        given_project.split,
    )
    kept = [(*pair, *expected[pair], period[at]) for at, pair in enumerate(ordered) if period[at] != ""]
    found = read[["lead_id", "cutoff", "horizon", "label", "period"]].itertuples(index=False, name=None)
    assert list(found) == kept


EVERYTHING_TRAINS = {"split": {"calibrate": 0.2, "test": 0.2, "test_from": 10**9}}


@pytest.mark.parametrize(
    ("row", "label"),
    [
        pytest.param(Row(START, (START,)), 1, id="converts at the cutoff"),
        pytest.param(Row(START, (START + HORIZON - 1,)), 1, id="converts in the last second"),
        pytest.param(Row(START, (START + HORIZON,)), 0, id="converts as the window ends"),
        pytest.param(Row(START), 0, id="never converts"),
        pytest.param(Row(START, (START - 1,)), None, id="converted a second before"),
        pytest.param(Row(START - 5, (START - 3, START + 3)), None, id="converted before and again"),
        pytest.param(Row(START + 1), None, id="created a second after the cutoff"),
        pytest.param(Row(START, (), None, True), None, id="opted out"),
        pytest.param(Row(START, (START + 50,), START + 50), 0, id="converts as its own window ends"),
        pytest.param(Row(START, (START + 49,), START + 50), 1, id="converts before its own window ends"),
        pytest.param(Row(START, (START,), START), None, id="its own window has ended at the cutoff"),
    ],
)
def test_an_example_at_an_edge_is_as_the_design_says(
    connection: ibis.BaseBackend, row: Row, label: int | None
) -> None:
    # Observed for one window exactly: only the first cutoff has matured.
    other = Row(10**6, (10**6,))
    read = examples(
        tables(connection, [row, other], project(until=True, **EVERYTHING_TRAINS), START + HORIZON)
    )
    assert list(read.loc[read["cutoff"] == START, "label"]) == ([] if label is None else [label])


def test_an_example_whose_window_is_not_over_is_censored_not_negative(connection: ibis.BaseBackend) -> None:
    rows = [Row(START), Row(START, (START + 10,)), Row(10**6, (10**6,))]
    for until, count in ((START + HORIZON - 1, 0), (START + HORIZON, 2)):
        assert len(examples(tables(connection, rows, project(**EVERYTHING_TRAINS), until))) == count


def test_an_own_end_shortens_the_window_and_lets_it_mature_earlier(connection: ibis.BaseBackend) -> None:
    rows = [Row(START, (), START + 40), Row(10**6, (10**6,))]
    until = START + 40
    assert list(
        examples(tables(connection, rows, project(until=True, **EVERYTHING_TRAINS), until))["horizon"]
    ) == [40]
    assert examples(tables(connection, rows, project(**EVERYTHING_TRAINS), until)).empty


# ---------------------------------------------------------------------------------------------------------------
# Periods.

SPLITS = st.builds(
    lambda calibrate, test, test_from: SplitSettings(calibrate=calibrate, test=test, test_from=test_from),
    st.sampled_from((0.1, 0.2, 0.45)),
    st.sampled_from((0.1, 0.2, 0.5)),
    st.none() | st.integers(-1, 60),
)


@settings(max_examples=400, deadline=None, print_blob=True)
@given(
    examples=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), min_size=1, max_size=60),
    split=SPLITS,
)
@example(examples=[(0, 1)] * 5, split=SplitSettings())
@example(examples=[(0, 5), (1, 5), (2, 5)], split=SplitSettings())
def test_periods_follow_time_and_no_label_window_reaches_into_the_next(
    examples: list[tuple[int, int]], split: SplitSettings
) -> None:
    examples = sorted(examples)
    cutoff = np.array([at for at, _ in examples])
    end = cutoff + np.array([horizon for _, horizon in examples])
    period = in_time(pd.Series(cutoff), pd.Series(end - cutoff), split)
    assert set(period) <= {*PERIODS, ""}
    for earlier, later in (*pairwise(PERIODS), ("train", "test")):
        first, second = period == earlier, period == later
        if first.any() and second.any():
            assert cutoff[first].max() < cutoff[second].min()
            assert end[first].max() <= cutoff[second].min()
    test = period == "test"
    if split.test_from is not None:
        assert (test == (cutoff >= split.test_from)).all()
        return
    # The test has its share, and not a whole cutoff more than it needs.
    assert test.sum() >= split.test * len(cutoff) - 1e-9
    assert (cutoff > cutoff[test].min()).sum() < split.test * len(cutoff) + 1
    # Nothing is left out without need: a later cutoff lies within its window.
    for at, ends in zip(cutoff[period == ""], end[period == ""], strict=True):
        assert ((cutoff > at) & (cutoff < ends)).any()


def test_an_evenly_filled_grid_is_split_at_the_shares_asked_for() -> None:
    cutoff = pd.Series(np.repeat(np.arange(10), 100))
    period = in_time(cutoff, pd.Series(1, index=cutoff.index), SplitSettings(calibrate=0.2, test=0.2))
    assert [list(cutoff[period == name].unique()) for name in PERIODS] == [list(range(6)), [6, 7], [8, 9]]
    longer = in_time(cutoff, pd.Series(2, index=cutoff.index), SplitSettings(calibrate=0.2, test=0.2))
    assert [list(cutoff[longer == name].unique()) for name in PERIODS] == [list(range(5)), [6], [8, 9]]


# ---------------------------------------------------------------------------------------------------------------
# Snapshots, and what cannot be learned from.


def snapshot(
    labels: Sequence[int], opted_out: Sequence[bool] | None = None, expected_rate: float | None = None
) -> Tables:
    given_project = Project.model_validate(
        {
            "name": "rows",
            "sources": {"snapshot": {"path": "rows.csv"}},
            "attributes": {"job": {"type": "category", "label": "Job"}},
            "conversion": {
                "column": "y",
                "positive": "yes",
                "horizon": HORIZON,
                "expected_rate": expected_rate,
            },
            "observed_until": UNTIL,
            "contact": {"opted_out": "opted_out"},
            "readiness": {"share": 0.1},
        }
    )
    leads = pd.DataFrame(
        {
            "lead_id": [f"row-{number + 1}" for number in range(len(labels))],
            "created": UNTIL,
            "opted_out": list(opted_out or [False] * len(labels)),
        }
    )
    outcome = pd.Series(list(labels), dtype="int64")
    return Tables(given_project, None, leads, None, NO_TOUCHES, UNTIL, outcome)  # type: ignore[arg-type]


@given(labels=st.lists(st.integers(0, 1), min_size=10, max_size=200), seed=st.integers(0, 99))
def test_a_snapshot_is_split_in_the_order_of_its_rows_without_those_who_opted_out(
    labels: list[int], seed: int
) -> None:
    labels = [0, 1, *labels, 0, 1] if sum(labels) == 0 else labels
    out = list(np.random.default_rng(seed).random(len(labels)) < 0.2)
    given_tables = snapshot(labels, out)
    kept = [(f"row-{number + 1}", label) for number, label in enumerate(labels) if not out[number]]
    if not any(label for _, label in kept):
        return
    try:
        read = observe(given_tables)
    except TrainingImpossible as refused:
        assert "fewer than two classes" in refused.what  # noqa: PT017 - short random rows may lack a class
        assert len({label for _, label in kept}) < 2 or sum(labels) >= 60
        return
    assert list(zip(read["lead_id"], read["label"], strict=True)) == kept
    assert (read["weight"] == 1).all()
    if (read["period"] == "train").all():
        # Too few to hold any out: not 10 conversions in all, or not 60 and a period with one outcome only.
        only, first, second = [label for _, label in kept], round(0.6 * len(kept)), round(0.8 * len(kept))
        parts = (only[:first], only[first:second], only[second:])
        assert sum(labels) < 10 or (sum(labels) < 60 and min(len(set(part)) for part in parts) < 2)
        return
    position = {name: np.flatnonzero(read["period"] == name) for name in PERIODS}
    assert list(np.concatenate([position[name] for name in PERIODS])) == list(range(len(kept)))
    for name, share in zip(PERIODS, (0.6, 0.2, 0.2), strict=True):
        assert abs(len(position[name]) - share * len(kept)) <= 1


def test_a_snapshot_without_the_positive_value_is_refused_with_its_column() -> None:
    with pytest.raises(ConversionNeverOccurs) as refused:
        observe(snapshot([0] * 20))
    assert "y = 'yes'" in refused.value.what
    assert "conversion.expected_rate" in refused.value.remedy
    with pytest.raises(ConversionNeverOccurs):
        observe(snapshot([1] + [0] * 20, [True] + [False] * 20))
    read = observe(snapshot([0] * 20, expected_rate=0.05))
    assert (read["label"].sum(), set(read["period"])) == (0, {"train"})


def test_a_log_without_the_conversion_is_refused_with_the_types_it_has(connection: ibis.BaseBackend) -> None:
    with pytest.raises(ConversionNeverOccurs) as refused:
        observe(tables(connection, [Row(START), Row(START)], project()))
    assert "'won'" in refused.value.what
    assert "page_view" in refused.value.remedy


def test_rows_of_one_class_or_none_at_all_are_refused_by_name(connection: ibis.BaseBackend) -> None:
    late = Row(10**6, (10**6,))
    with pytest.raises(TrainingImpossible, match="no example has a known outcome"):
        observe(tables(connection, [Row(START), late], project(), START + HORIZON - 1))
    with pytest.raises(TrainingImpossible, match=r"train period has \d+ examples and 0 conversions"):
        observe(tables(connection, [*[Row(START)] * 20, late], project()))
    always = [replace(late, created=START + n, conversions=(START + n + EVERY,)) for n in range(0, 800, 7)]
    with pytest.raises(TrainingImpossible, match="fewer than two classes"):
        observe(tables(connection, always, project(at_creation=True)))


# ---------------------------------------------------------------------------------------------------------------
# Few conversions: everything trains.

COLD, LONG = "none", START + 10 * HORIZON


def converting(number: int, *, at: int = START + 20, open_leads: int = 40) -> list[Row]:
    """`number` leads that convert at one early instant, beside others that never do."""
    return [*[Row(START, (at,))] * number, *[Row(START)] * open_leads]


def test_below_60_conversions_everything_trains_where_a_period_has_one_outcome(
    connection: ibis.BaseBackend,
) -> None:
    for number in (1, 9, 10, 59):
        read = observe(tables(connection, converting(number), project()))
        assert arrangement_of(read) == COLD
        assert read["label"].sum() == number
        # Nothing is left out for a border that is not there: every matured cutoff of every open lead.
        assert set(read["cutoff"]) == set(range(START, UNTIL - HORIZON + 1, EVERY))
    with pytest.raises(TrainingImpossible, match="calibrate period has"):
        observe(tables(connection, converting(60), project()))


def test_from_10_conversions_on_three_good_periods_are_kept(connection: ibis.BaseBackend) -> None:
    spread = [Row(START, (START + 20 + 240 * number,)) for number in range(10)]
    read = observe(tables(connection, [*spread, *[Row(START)] * 40], project(), LONG))
    assert arrangement_of(read) == "time"
    few = observe(tables(connection, [*spread[1:], *[Row(START)] * 40], project(), LONG))
    assert arrangement_of(few) == COLD


def test_before_anybody_converted_an_expected_rate_allows_a_start(connection: ibis.BaseBackend) -> None:
    rows, expecting = [Row(START)] * 5, project(conversion={"expected_rate": 0.03})
    read = observe(tables(connection, rows, expecting))
    assert (len(read), read["label"].sum(), arrangement_of(read)) == (5 * 8, 0, COLD)
    # Before anything has matured each example counts for the part of its window that was watched.
    young = observe(tables(connection, rows, expecting, START + 100))
    assert set(young["weight"]) == {100 / HORIZON}
    with pytest.raises(ConversionNeverOccurs) as refused:
        observe(tables(connection, rows, project()))
    assert "conversion.expected_rate" in refused.value.remedy


# ---------------------------------------------------------------------------------------------------------------
# Censoring weights.


def young(number: int, observed_until: int) -> list[Row]:
    """Leads of which a third were there as the log began; they convert in their own time, if ever, some after the end
    of the log."""
    rng = np.random.default_rng(20261122)
    born = np.maximum(START, rng.integers(START - (observed_until - START) // 2, observed_until, number))
    when = born + rng.integers(0, 1200, number)
    return [
        Row(int(at), (int(then),) if rng.random() < 0.7 else ()) for at, then in zip(born, when, strict=True)
    ]


@pytest.mark.parametrize("censoring", ["weights", "auto"])
@pytest.mark.parametrize("observed_until", [LONG, START + 3 * HORIZON - 1])
def test_with_weights_an_example_converted_or_was_followed_for_its_whole_window(
    connection: ibis.BaseBackend, censoring: str, observed_until: int
) -> None:
    rows = young(400, observed_until)
    given = project(conversion={"censoring": censoring})
    read = observe(tables(connection, rows, given, observed_until))
    weighted = censoring == "weights" or observed_until < START + 3 * HORIZON
    assert weighted == bool((read["weight"] != 1).any())
    by_lead = [rows[int(lead[1:])] for lead in read["lead_id"]]
    known = [[at for at in row.conversions if at < observed_until] for row in by_lead]
    delay = np.array(
        [min(at) - cutoff if at else np.nan for at, cutoff in zip(known, read["cutoff"], strict=True)]
    )
    followed = observed_until - read["cutoff"].to_numpy()
    assert np.array_equal(read["converted_after"].to_numpy(), delay, equal_nan=True)
    assert np.array_equal(read["followed"].to_numpy(), followed)
    assert ((read["label"] == 1) == (delay < HORIZON)).all()
    assert ((read["label"] == 1) | (followed >= HORIZON)).all()
    assert read.groupby("period")["weight"].mean().to_numpy() == pytest.approx(1.0)


def test_no_period_learns_what_happened_in_the_next_one(connection: ibis.BaseBackend) -> None:
    seen = set()
    for observed_until in (LONG, START + 5 * HORIZON // 2, START + 3 * HORIZON // 2):
        rows = young(600, observed_until)
        read = observe(tables(connection, rows, project(conversion={"censoring": "weights"}), observed_until))
        arrangement = arrangement_of(read)
        seen.add(arrangement)
        part = {name: read[read["period"] == name] for name in PERIODS}
        moment = {
            name: (rows_["cutoff"] + rows_["converted_after"])[rows_["label"] == 1]
            for name, rows_ in part.items()
        }
        if arrangement != "leads":
            border = part["test"]["cutoff"].min()
            for name in ("train", "calibrate"):
                assert part[name]["cutoff"].max() < border
                assert moment[name].max() < border
                assert (part[name]["cutoff"] + HORIZON)[part[name]["label"] == 0].max() <= border
        if arrangement == "time":
            assert moment["train"].max() < part["calibrate"]["cutoff"].min()
        else:
            first, second = (set(part[name]["lead_id"]) for name in ("train", "calibrate"))
            assert not first & second
        if arrangement == "leads":
            assert not (first | second) & set(part["test"]["lead_id"])
    assert seen == {"time", "test later", "leads"}


def test_a_lead_keeps_its_lot_and_lots_are_even() -> None:
    ids = pd.Series([f"L{number}" for number in range(4000)])
    drawn = lots(ids)
    assert np.array_equal(lots(ids[::-1]), drawn[::-1])
    assert abs(np.histogram(drawn, 10, (0, 1))[0] - 400).max() < 80


@given(
    followed=st.lists(st.integers(1, 60), min_size=1, max_size=60),
    seed=st.integers(0, 99),
    horizon=st.integers(1, 40),
)
def test_weights_are_one_over_the_share_followed_beyond(followed: list[int], seed: int, horizon: int) -> None:
    rng = np.random.default_rng(seed)
    delay = np.where(rng.random(len(followed)) < 0.6, rng.integers(0, 60, len(followed)), np.nan)
    weight = censoring_weights(delay, followed, np.full(len(followed), horizon))
    expected = []
    for d, f in zip(delay, followed, strict=True):
        if d < min(f, horizon):
            expected.append(len(followed) / sum(other > d for other in followed))
        elif f >= horizon:
            expected.append(len(followed) / sum(other >= horizon for other in followed))
        else:
            expected.append(0.0)
    if sum(other >= horizon for other in followed) < len(followed) / 10:
        assert not weight.any()
        return
    capped = np.minimum(expected, 10.0)
    assert weight == pytest.approx(capped / capped[capped > 0].mean())
