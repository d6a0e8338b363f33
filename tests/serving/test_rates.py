"""Token buckets: never more than was promised, never less, and never more memory."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
from serving.rates import MOST_CALLERS, Buckets

rates = st.floats(0.1, 1000)
bursts = st.integers(1, 50)
pauses = st.lists(st.floats(0, 3), min_size=1, max_size=200)


@given(rates, bursts, pauses)
def test_within_any_time_at_most_the_burst_and_what_the_rate_gives(rate, burst, pauses):
    buckets, now, taken = Buckets(rate, burst), 1000.0, []
    for pause in pauses:
        now += pause
        if buckets.take("a", now) == 0:
            taken.append(now)
    for first, begin in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + rate * (taken[last] - begin) + 1e-3


@given(rates, bursts, pauses)
def test_who_waits_as_long_as_told_gets_one(rate, burst, pauses):
    buckets, now = Buckets(rate, burst), 1000.0
    for pause in pauses:
        now += pause
        wait = buckets.take("a", now)
        if wait > 0:
            now += wait
            assert buckets.take("a", now) == 0


@given(rates, bursts)
def test_a_rested_caller_has_the_whole_burst_and_nobody_elses(rate, burst):
    buckets = Buckets(rate, burst)
    for caller in ("a", "b"):
        assert [buckets.take(caller, 1000.0) for _ in range(burst)] == [0] * burst
        assert buckets.take(caller, 1000.0) > 0
    buckets.give_back("a")
    assert buckets.take("a", 1000.0) == 0
    assert buckets.take("a", 1000.0) > 0


def test_a_flood_of_callers_fills_no_memory():
    buckets = Buckets(200, 400)
    tracemalloc.start()
    for number in range(MOST_CALLERS):
        buckets.take(f"caller {number}", number * 1e-6)
    full, _ = tracemalloc.get_traced_memory()
    for number in range(5 * MOST_CALLERS):
        buckets.take(f"other {number}", 1 + number * 1e-6)
    flooded, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert flooded < 1.3 * full
