"""Days, hours and time zones of the simulated world; instants are whole seconds since 1970-01-01 UTC."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

DAY = 86_400

# Share of a person's activity by local hour: office hours with a lunch dip and a thin evening.
_HOURS = np.array(
    [0.2, 0.1, 0.1, 0.1, 0.1, 0.3, 1, 3, 8, 11, 11, 10, 6, 8, 10, 9.5, 8, 5, 2.5, 2, 2, 1.5, 1, 0.5]
)
_OFFICE = np.where((np.arange(24) >= 8) & (np.arange(24) < 18), _HOURS, 0.0)
# Monday to Sunday, mean 1: weekends carry about a third of a working day.
WEEKDAY = np.array([1.20, 1.32, 1.32, 1.27, 1.09, 0.40, 0.40])


def weekday(start: datetime, day: Ints) -> Ints:
    """Weekday (Monday = 0) of simulated days counted from `start`."""
    return (day + start.weekday()) % 7


def zone_offsets(zones: tuple[str, ...], start: datetime, days: int) -> Ints:
    """Local time minus UTC in seconds at local noon, shape (zones, days).

    One offset per day: in the small hours of the two clock-change nights an event can be one hour off.
    """
    noons = pd.date_range(start.replace(tzinfo=None), periods=days, freq="D") + pd.Timedelta(hours=12)
    table = np.empty((len(zones), days), dtype=np.int64)
    for row, zone in enumerate(zones):
        utc = noons.tz_localize(zone).tz_convert("UTC").tz_localize(None)
        table[row] = ((noons - utc) // pd.Timedelta(seconds=1)).to_numpy()
    return table


def local_seconds(rng: np.random.Generator, size: int, office: bool = False) -> Ints:
    """Seconds after local midnight, shape (size,), by the hourly profile; `office` keeps to 08:00-18:00."""
    profile = _OFFICE if office else _HOURS
    cumulative = np.cumsum(profile) / profile.sum()
    hour = np.searchsorted(cumulative, rng.random(size), side="right").clip(0, 23)
    return np.asarray(hour * 3_600 + rng.integers(0, 3_600, size), dtype=np.int64)


class Calendar:
    """Turns (simulated day, lead, local time) into UTC seconds.

    Args:
        start: midnight UTC of day 0.
        days: number of simulated days.
        zones: IANA names.
        zone: index into `zones` per lead, shape (leads,).
    """

    def __init__(self, start: datetime, days: int, zones: tuple[str, ...], zone: Ints) -> None:
        self._start = int(start.timestamp())
        self._zone = zone
        self._offsets = zone_offsets(zones, start, days)

    def instant(self, lead: Ints, day: Ints, local: Ints) -> Ints:
        """UTC seconds of a local time on a local date; may fall on the UTC date before or after."""
        clipped = np.clip(day, 0, self._offsets.shape[1] - 1)
        return np.asarray(
            self._start + day * DAY + local - self._offsets[self._zone[lead], clipped], dtype=np.int64
        )

    def instant_within_day(self, lead: Ints, day: Ints, local: Ints) -> Ints:
        """As `instant`, wrapped into the UTC date `day`.

        Conversions and touches use this one: the truth is counted in UTC days, so both must stay on theirs.
        """
        midnight = self._start + day * DAY
        return np.asarray(midnight + (self.instant(lead, day, local) - midnight) % DAY, dtype=np.int64)


def timestamps(seconds: Ints) -> pd.DatetimeIndex:
    """Seconds since 1970-01-01 UTC as `datetime64[us, UTC]`; negative values become NaT."""
    moments = seconds.astype("datetime64[s]").astype("datetime64[us]")
    moments[seconds < 0] = np.datetime64("NaT")
    return pd.DatetimeIndex(moments).tz_localize("UTC")
