"""Quiet hours on a lead's own clock, correct across changes of daylight saving time."""

from __future__ import annotations

from datetime import datetime, timedelta
from datetime import time as clock
from functools import lru_cache
from zoneinfo import ZoneInfo

from predictive_scoring.timeline import DAY


@lru_cache(maxsize=1024)
def find_zone(name: str | None) -> ZoneInfo | None:
    """The IANA zone of that name, or None: unknown zones come from lead data and must not stop a recommendation."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    # ValueError: '../x'; OSError: 'Europe' (a directory); TypeError: NaN; KeyError covers ZoneInfoNotFoundError.
    except (KeyError, ValueError, OSError, TypeError):
        return None


# A batch asks the same question for every lead of a time zone.
@lru_cache(maxsize=4096)
def quiet_until(as_of: int, zone: ZoneInfo, start: int, end: int) -> int | None:
    """End of the quiet hours that `as_of` lies in, in epoch seconds; None outside quiet hours.

    `start` and `end` are minutes after local midnight, start included, end excluded; start > end spans midnight.
    The end is the first instant after `as_of` at which local clocks show `end`. Where they skip it (spring), it is
    the instant of the jump, so nobody waits an hour too long.

    Worked example: Europe/Paris, quiet 20:00 to 08:00, as of 2026-03-28T22:00:00Z (23:00 local). Clocks jump from
    02:00 to 03:00, so 08:00 local comes at 2026-03-29T06:00:00Z: 8 hours later, not 9.
    """
    instant = as_of
    local = datetime.fromtimestamp(instant, zone)
    if not _is_quiet(local, start, end):
        return None
    while _is_quiet(local, start, end):
        instant = _next_showing(instant, local, zone, end)
        local = datetime.fromtimestamp(instant, zone)
    return instant


def _is_quiet(local: datetime, start: int, end: int) -> bool:
    minute = local.hour * 60 + local.minute
    if start < end:
        return start <= minute < end
    return minute >= start or minute < end


def _next_showing(instant: int, local: datetime, zone: ZoneInfo, end: int) -> int:
    """First instant after `instant` at which clocks of `zone` show `end` (minutes) or jump over it."""
    for days in (0, 1):
        goal = datetime.combine(local.date(), clock(end // 60, end % 60)) + timedelta(days=days)
        # In autumn clocks show one hour twice: both passes count, the earlier one first.
        for fold in (0, 1):
            shown = int(goal.replace(tzinfo=zone, fold=fold).timestamp())
            if shown > instant and _wall(shown, zone) == goal:
                return shown
        if goal > local.replace(tzinfo=None):
            break
    return _jump_over(goal, instant, zone)


def _jump_over(goal: datetime, instant: int, zone: ZoneInfo) -> int:
    """First second after `instant` with a local time past `goal`, which clocks of `zone` never show."""
    low, high = instant, instant + 3 * DAY
    while high - low > 1:
        middle = (low + high) // 2
        if _wall(middle, zone) < goal:
            low = middle
        else:
            high = middle
    return high


def _wall(instant: int, zone: ZoneInfo) -> datetime:
    """What a clock on the wall shows; without a zone, because walls are compared with walls."""
    return datetime.fromtimestamp(instant, zone).replace(tzinfo=None)
