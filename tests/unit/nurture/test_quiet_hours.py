"""Quiet hours against a scan of local clocks, minute by minute."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from predictive_scoring.nurture.quiet_hours import find_zone, quiet_until
from predictive_scoring.timeline import format_instant, parse_instant


def is_quiet(instant, zone, start, end):
    local = datetime.fromtimestamp(instant, zone)
    minute = local.hour * 60 + local.minute
    return start <= minute < end if start < end else minute >= start or minute < end


def by_scanning(instant, zone, start, end):
    if not is_quiet(instant, zone, start, end):
        return None
    later = instant - instant % 60
    while is_quiet(later, zone, start, end):
        later += 60
    return later


# Days around a change of the clocks, one zone per oddity.
CHANGES = [
    ("Europe/Paris", "2026-03-28"),
    ("Europe/Paris", "2026-10-24"),
    ("America/New_York", "2026-03-07"),
    ("America/New_York", "2026-10-31"),
    ("Australia/Lord_Howe", "2026-04-04"),  # moves by half an hour
    ("Australia/Lord_Howe", "2026-10-03"),
    ("America/Sao_Paulo", "2018-11-03"),  # midnight itself was skipped
    ("Pacific/Apia", "2011-12-29"),  # a whole day was skipped
    ("Asia/Kathmandu", "2026-06-01"),  # +05:45, no changes
    ("Africa/Casablanca", "2026-02-14"),
    ("UTC", "2026-01-01"),
]
SPANS = [
    ("20:00", "08:00"),
    ("22:30", "07:15"),
    ("12:00", "14:00"),
    ("23:00", "02:30"),
    ("21:00", "01:30"),
    ("21:00", "00:00"),
]


def minutes(text):
    return int(text[:2]) * 60 + int(text[3:])


@pytest.mark.parametrize(("name", "day"), CHANGES)
@pytest.mark.parametrize(("start", "end"), SPANS)
def test_equals_a_scan_of_the_clock(name, day, start, end):
    zone, begin = find_zone(name), parse_instant(f"{day}T00:00:00Z")
    for instant in range(begin, begin + 3 * 86_400, 1860):
        expected = by_scanning(instant, zone, minutes(start), minutes(end))
        found = quiet_until(instant, zone, minutes(start), minutes(end))
        assert found == expected, format_instant(instant)


def test_worked_example_of_the_docstring():
    end = quiet_until(parse_instant("2026-03-28T22:00:00Z"), ZoneInfo("Europe/Paris"), 1200, 480)
    assert format_instant(end) == "2026-03-29T06:00:00Z"


def test_edges_start_included_end_excluded():
    utc = ZoneInfo("UTC")
    day = datetime(2026, 1, 1, tzinfo=UTC)
    at = lambda **parts: int((day + timedelta(**parts)).timestamp())  # noqa: E731
    assert quiet_until(at(hours=19, minutes=59, seconds=59), utc, 1200, 480) is None
    assert quiet_until(at(hours=20), utc, 1200, 480) == at(hours=32)
    assert quiet_until(at(hours=7, minutes=59, seconds=59), utc, 1200, 480) == at(hours=8)
    assert quiet_until(at(hours=8), utc, 1200, 480) is None


@pytest.mark.parametrize(
    "name",
    [None, "", float("nan"), "Mars/Base", "../etc/passwd", "Europe", "/etc/localtime", "x" * 5000, "a\x00b"],
)
def test_unknown_zones_are_none(name):
    assert find_zone(name) is None
