"""The law of time: the only module that reads and compares instants.

An instant is a whole number of seconds since 1970-01-01T00:00:00Z ("epoch seconds"); fractions are
dropped (one-second grain). Everything temporal derives from one integer:

    age = cutoff - occurred            (seconds; positive = in the past of the cutoff)

    feature window of w seconds:       0 < age <= w        i.e. occurred in [cutoff - w, cutoff)
    label window of h seconds:        -h < age <= 0        i.e. occurred in [cutoff, cutoff + h)

so that no event can be in both. The comparisons use `&` and arithmetic only: the same function reads a
Python int, a NumPy array and an Ibis column.

Worked example, cutoff 2026-03-01T00:00:00Z: an event at 2026-02-28T23:59:59Z has age 1 and is history;
one at 2026-03-01T00:00:00Z has age 0 and belongs to the label.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from predictive_scoring.errors import InvalidSetting, NaiveTimestamp

SECOND = 1
MINUTE = 60
HOUR = 3600
DAY = 86_400
WEEK = 7 * DAY

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION = re.compile(r"^(\d+)([smhdw])$")
_UNITS = {"s": SECOND, "m": 60, "h": HOUR, "d": DAY, "w": WEEK}


def age(occurred: Any, cutoff: Any) -> Any:
    """Seconds from the event to the cutoff; works on ints, arrays and Ibis columns alike."""
    return cutoff - occurred


def in_feature_window(age_seconds: Any, window: int | None) -> Any:
    """`0 < age <= window`; a window of None reaches back without end."""
    past = age_seconds > 0
    return past if window is None else past & (age_seconds <= window)


def seen_by_some(occurred: Any, first: int, last: int, window: int | None) -> Any:
    """Whether some cutoff from `first` to `last` may have the event in its feature window."""
    before = occurred < last
    return before if window is None else before & (occurred >= first - window)


def in_label_window(age_seconds: Any, horizon: Any) -> Any:
    """`-horizon < age <= 0`: at or after the cutoff, before the horizon ends."""
    return (age_seconds <= 0) & (age_seconds > -horizon)


def in_rolling_window(age_seconds: Any, window: int) -> Any:
    """`0 <= age < window`: for limits on what we do (caps, cooldowns), where this very second counts and
    something exactly `window` old no longer does."""
    return (age_seconds >= 0) & (age_seconds < window)


def is_known(known: Any, cutoff: Any) -> Any:
    """A fact counts only when it was learned of strictly before the cutoff."""
    return known < cutoff


class Dated(Protocol):
    """Something that occurred, and that was learned of, at an instant each."""

    @property
    def occurred(self) -> int: ...

    @property
    def known(self) -> int: ...


Fact = TypeVar("Fact", bound=Dated)


def seen_at(facts: Iterable[Fact], cutoff: int) -> list[Fact]:
    """Those of age above 0 (`in_feature_window` without a window) that were known (`is_known`)."""
    return [fact for fact in facts if fact.occurred < cutoff and fact.known < cutoff]


def learned_late(facts: Iterable[Dated], cutoff: int) -> bool:
    """Whether some fact lay before the cutoff without being known by then."""
    return any(fact.occurred < cutoff <= fact.known for fact in facts)


def ages(facts: Iterable[Dated], cutoff: int) -> list[int]:
    """`age` of each."""
    return [cutoff - fact.occurred for fact in facts]


def is_matured(cutoff: Any, horizon: Any, observed_until: int) -> Any:
    """The whole label window has been observed; otherwise the example is censored, not negative."""
    return cutoff + horizon <= observed_until


def hour_of_day(occurred: Any) -> Any:
    """0 to 23, in UTC."""
    return occurred // HOUR % 24


def weekday(occurred: Any) -> Any:
    """0 (Monday) to 6 (Sunday), in UTC. 1970-01-01, day 0 of the epoch, was a Thursday."""
    return (occurred // DAY + 3) % 7


def exists_at(created: Any, cutoff: Any) -> Any:
    """A lead can be scored from the second of its creation on."""
    return created <= cutoff


def cutoff_grid(first: int, last: int, every: int) -> tuple[int, ...]:
    """Cutoffs `first, first + every, …` up to and including `last` (epoch seconds)."""
    if every <= 0:
        raise InvalidSetting(
            what=f"cutoffs every {every} seconds", where="cutoffs.every", remedy="Use one day or more."
        )
    return tuple(range(first, last + 1, every))


def parse_duration(text: str) -> int:
    """Seconds of a duration such as `30d`, `2w`, `12h`, `90m`, `45s`.

    Raises InvalidSetting for anything else."""
    found = _DURATION.match(text.strip())
    if not found or int(found[1]) == 0:
        raise InvalidSetting(
            what=f"{text!r} is not a duration",
            where="duration",
            remedy="Write a positive whole number and a unit: s, m, h, d or w, for example 30d.",
        )
    return int(found[1]) * _UNITS[found[2]]


def format_duration(seconds: int) -> str:
    """Shortest spelling that `parse_duration` reads back, in days where it can: 2592000 -> `30d`."""
    for unit in ("d", "h", "m"):
        if seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"


def spoken_duration(seconds: int) -> str:
    """A duration for people: `30 days`, `1 day`, `12 hours`."""
    for unit, word in (("d", "day"), ("h", "hour"), ("m", "minute"), ("s", "second")):
        size = _UNITS[unit]
        if seconds >= size and seconds % size == 0:
            number = seconds // size
            return f"{number} {word}{'' if number == 1 else 's'}"
    return f"{seconds} seconds"


def to_epoch(moment: datetime, *, where: str = "time") -> int:
    """Epoch seconds of an aware datetime, fraction dropped. Raises NaiveTimestamp without a zone."""
    if moment.tzinfo is None:
        raise NaiveTimestamp(
            what=f"the time {moment.isoformat()} has no time zone",
            where=where,
            remedy="Add an offset, for example 2026-01-05T09:00:00Z or 2026-01-05T09:00:00+01:00.",
        )
    since = moment - _EPOCH
    # Seconds and fractions of a timedelta are never negative: dropping the fraction rounds down.
    return since.days * DAY + since.seconds


def parse_instant(text: str, *, where: str = "time") -> int:
    """Epoch seconds of an ISO 8601 text with an offset.

    Raises NaiveTimestamp without an offset and InvalidSetting for a text that is no time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as refused:
        raise InvalidSetting(
            what=f"{text!r} is not a time",
            where=where,
            remedy="Write ISO 8601 with an offset, for example 2026-01-05T09:00:00Z.",
        ) from refused
    if moment.tzinfo is None:
        return to_epoch(moment, where=where)
    # As `to_epoch`, without a call: requests hold hundreds of instants.
    since = moment - _EPOCH
    return since.days * DAY + since.seconds


def to_datetime(seconds: int) -> datetime:
    """The aware UTC datetime of an instant."""
    return _EPOCH + timedelta(seconds=int(seconds))


def format_instant(seconds: int) -> str:
    """`2026-11-01T00:00:00Z`: how every document writes an instant."""
    return to_datetime(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")
