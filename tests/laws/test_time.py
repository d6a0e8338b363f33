"""The law of time: everything temporal reads one integer, and no event is history and label at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import ibis
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictive_scoring.errors import InvalidSetting, NaiveTimestamp
from predictive_scoring.timeline import (
    DAY,
    age,
    cutoff_grid,
    exists_at,
    format_duration,
    format_instant,
    in_feature_window,
    in_label_window,
    in_rolling_window,
    is_known,
    is_matured,
    parse_duration,
    parse_instant,
    spoken_duration,
    to_datetime,
    to_epoch,
)

AGES = st.integers(-400 * DAY, 400 * DAY)
SPANS = st.integers(1, 200 * DAY)
INSTANTS = st.integers(-2_000_000_000, 4_000_000_000)
LAW = settings(max_examples=300, deadline=None, print_blob=True)


@LAW
@given(
    a=AGES | SPANS,
    window=SPANS | st.none(),
    horizon=SPANS,
    shift=st.sampled_from((-1, 0, 1)),
    sign=st.booleans(),
)
def test_the_feature_window_and_the_label_window_never_share_an_event(
    a: int, window: int | None, horizon: int, shift: int, sign: bool
) -> None:
    for at in (a, (window or 0) + shift, -horizon + shift, shift):
        history, label = in_feature_window(at, window), in_label_window(at, horizon)
        assert not (history and label)
        assert history == (at > 0 and (window is None or at <= window))
        assert label == (-horizon < at <= 0)
        # Within reach of both, an event is in one of the two: the windows touch.
        if -horizon < at and (window is None or at <= window):
            assert history or label


@LAW
@given(occurred=INSTANTS, cutoff=INSTANTS, window=SPANS, horizon=SPANS)
def test_the_windows_are_the_half_open_intervals_of_the_design(
    occurred: int, cutoff: int, window: int, horizon: int
) -> None:
    for moment in (occurred, cutoff, cutoff - 1, cutoff - window, cutoff - window - 1, cutoff + horizon):
        distance = age(moment, cutoff)
        assert in_feature_window(distance, window) == (cutoff - window <= moment < cutoff)
        assert in_label_window(distance, horizon) == (cutoff <= moment < cutoff + horizon)
        assert in_rolling_window(distance, window) == (cutoff - window < moment <= cutoff)
        assert is_known(moment, cutoff) == (moment < cutoff)
        assert exists_at(moment, cutoff) == (moment <= cutoff)
        assert is_matured(cutoff, horizon, moment) == (moment >= cutoff + horizon)


def test_integers_arrays_and_engine_columns_are_read_alike() -> None:
    window, horizon, cutoff = 7 * DAY, 3 * DAY, 1_772_323_200
    edges = [0, 1, -1, window, window + 1, window - 1, -horizon, 1 - horizon, -horizon - 1]
    moments = np.array([cutoff - edge for edge in edges])
    table = ibis.memtable({"at": moments})
    distance = age(table["at"], cutoff)
    by_engine = ibis.duckdb.connect().to_pyarrow(
        table.select(
            at=table["at"],
            feature=in_feature_window(distance, window),
            all=in_feature_window(distance, None),
            label=in_label_window(distance, horizon),
            rolling=in_rolling_window(distance, window),
            known=is_known(table["at"], cutoff),
        )
    )
    rows = {row["at"]: row for row in by_engine.to_pylist()}
    for moment, in_array in zip(
        moments.tolist(), in_feature_window(age(moments, cutoff), window), strict=True
    ):
        one = cutoff - moment
        row = rows[moment]
        assert row["feature"] == in_feature_window(one, window) == bool(in_array)
        assert row["all"] == in_feature_window(one, None)
        assert row["label"] == in_label_window(one, horizon)
        assert row["rolling"] == in_rolling_window(one, window)
        assert row["known"] == is_known(moment, cutoff)


@LAW
@given(first=INSTANTS, every=SPANS, steps=st.integers(-3, 20), rest=st.integers(0, 200 * DAY))
def test_the_grid_starts_at_its_first_cutoff_and_never_passes_its_last(
    first: int, every: int, steps: int, rest: int
) -> None:
    last = first + steps * every + rest % every
    grid = cutoff_grid(first, last, every)
    assert len(grid) == max(0, steps + 1)
    assert all(cutoff == first + number * every <= last for number, cutoff in enumerate(grid))


@LAW
@given(seconds=INSTANTS, offset=st.integers(-14 * 60, 14 * 60), fraction=st.integers(0, 999_999))
def test_an_instant_survives_every_offset_and_loses_its_fraction_downwards(
    seconds: int, offset: int, fraction: int
) -> None:
    moment = to_datetime(seconds) + timedelta(microseconds=fraction)
    elsewhere = moment.astimezone(timezone(timedelta(minutes=offset)))
    assert to_epoch(elsewhere) == seconds
    assert parse_instant(elsewhere.isoformat()) == seconds
    assert parse_instant(format_instant(seconds)) == seconds


@LAW
@given(seconds=st.integers(1, 10**9))
def test_a_duration_is_read_back_as_it_was_written(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds
    number, unit = spoken_duration(seconds).split()
    assert int(number) * {"d": DAY, "h": 3600, "m": 60, "s": 1}[unit[0]] == seconds
    assert unit.endswith("s") == (number != "1")


@LAW
@given(naive=st.datetimes())
def test_a_time_without_a_zone_is_refused(naive: datetime) -> None:
    with pytest.raises(NaiveTimestamp):
        to_epoch(naive)
    with pytest.raises(NaiveTimestamp):
        parse_instant(naive.isoformat())
    assert to_datetime(to_epoch(naive.replace(tzinfo=UTC))) == naive.replace(tzinfo=UTC, microsecond=0)


def test_a_grid_that_stands_still_is_refused() -> None:
    for every in (0, -1):
        with pytest.raises(InvalidSetting):
            cutoff_grid(0, 10, every)
