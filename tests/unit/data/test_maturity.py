"""Readiness to train: what a number of conversions is enough for, and when there will be enough for more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from predictive_scoring.data.maturity import LEVELS, PACE_DAYS, readiness_of
from predictive_scoring.timeline import DAY, parse_instant

UNTIL = parse_instant("2026-01-01T00:00:00Z")


def test_the_date_counts_the_missing_conversions_and_one_horizon() -> None:
    # One conversion each ten days: twelve more take 120 days, and 30 more to mature.
    converted = [UNTIL - number * 10 * DAY for number in range(48)]
    ready = readiness_of(48, converted, UNTIL, 30 * DAY)
    assert (ready.level, ready.next_level, ready.still_needed) == ("ridge", "blend", 12)
    assert ready.enough_by == "2026-05-31"
    assert "2026-05-31" in ready.summary
    assert ready.to_document()["enough_by"] == "2026-05-31"


def test_no_date_without_a_pace() -> None:
    long_ago = [UNTIL - (PACE_DAYS + 1) * DAY] * 20
    assert readiness_of(20, long_ago, UNTIL, DAY).enough_by is None
    assert readiness_of(20, [], UNTIL, DAY).per_month is None
    one = readiness_of(1, [UNTIL - DAY], UNTIL, DAY)
    assert (one.level, one.next_level) == ("rules", "ridge")
    assert one.enough_by is not None


@given(st.integers(0, 200), st.integers(0, 200))
def test_more_conversions_never_mean_less(few: int, more: int) -> None:
    order = [level for _, level, _ in LEVELS]
    low, high = sorted((few, more))
    first, second = (readiness_of(number, [UNTIL] * number, UNTIL, DAY) for number in (low, high))
    assert order.index(first.level) <= order.index(second.level)
    assert (second.next_level is None) == (high >= 60)
    if second.enough_by and first.enough_by and first.level == second.level:
        assert second.enough_by <= first.enough_by
