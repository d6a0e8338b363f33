"""Texts of instants and durations."""

from __future__ import annotations

import pytest

from predictive_scoring.errors import InvalidSetting, NaiveTimestamp
from predictive_scoring.timeline import (
    DAY,
    format_duration,
    format_instant,
    parse_duration,
    parse_instant,
    spoken_duration,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30d", 30 * DAY), ("2w", 14 * DAY), ("12h", 43_200), ("90m", 5400), ("45s", 45), (" 7d ", 7 * DAY)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "30", "d", "0d", "-1d", "1.5d", "30 d", "1y", "30D", "1d2h", "30d\n7d", "P30D"]
)
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(InvalidSetting, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text", "spoken"),
    [
        (DAY, "1d", "1 day"),
        (30 * DAY, "30d", "30 days"),
        (3600, "1h", "1 hour"),
        (90 * 60, "90m", "90 minutes"),
        (61, "61s", "61 seconds"),
        (1, "1s", "1 second"),
    ],
)
def test_a_duration_is_written_in_its_largest_whole_unit(seconds: int, text: str, spoken: str) -> None:
    assert format_duration(seconds) == text
    assert spoken_duration(seconds) == spoken


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-03-01T00:00:00Z", 1_772_323_200),
        ("2026-03-01T01:00:00+01:00", 1_772_323_200),
        ("2026-02-28 19:00:00-05:00", 1_772_323_200),
        ("2026-03-01T00:00:00.999999Z", 1_772_323_200),
        ("1969-12-31T23:59:59.5Z", -1),
    ],
)
def test_an_instant_is_iso_8601_with_an_offset_floored_to_the_second(text: str, seconds: int) -> None:
    assert parse_instant(text) == seconds


@pytest.mark.parametrize("text", ["2026-03-01", "2026-03-01T00:00:00", "2026-03-01 09:30"])
def test_an_instant_without_an_offset_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(NaiveTimestamp) as refused:
        parse_instant(text, where="observed_until")
    assert refused.value.where == "observed_until"
    assert "Z" in refused.value.remedy


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "1772323200x"]
)
def test_a_text_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidSetting, match="is not a time"):
        parse_instant(text)


def test_instants_are_written_one_way() -> None:
    assert format_instant(1_772_323_200) == "2026-03-01T00:00:00Z"
    assert format_instant(-1) == "1969-12-31T23:59:59Z"
