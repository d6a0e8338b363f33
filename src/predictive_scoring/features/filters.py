"""Which events a feature sees besides their type and window: by a property, or by the clock.

A filter is data. Like an aggregate it has two readings: `admits` for one event in hand, `expression` for a
table. A missing value is in no list and in no range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from predictive_scoring.schema import Event
from predictive_scoring.timeline import WEEKDAYS, hour_of_day, weekday

if TYPE_CHECKING:
    import ibis.expr.types as ir

CLOCK = ("hour", "weekday")
"""Columns every event has: hour of the day (0 to 23) and day of the week (`mon` to `sun`), both in UTC."""


@dataclass(frozen=True)
class EventFilter:
    """Events whose `column` is one of `values`, or a number from `low` to `high` (both inclusive).

    With `drop` these events are left out and all others stay, also those without a value. With `events` it
    speaks about these event types only; the others stay."""

    column: str
    values: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    drop: bool = False
    events: tuple[str, ...] = ()

    @property
    def is_range(self) -> bool:
        return self.low is not None or self.high is not None

    @property
    def property_read(self) -> str | None:
        """The event property it needs, if any."""
        return None if self.column in CLOCK else self.column

    @property
    def name(self) -> str:
        """For feature names: `topic_pricing_or_roi`, `hour_9_to_16`, `pages_up_to_1`."""
        if not self.is_range:
            return f"{self.column}_{'_or_'.join(self.values)}"
        if self.low is None:
            return f"{self.column}_up_to_{self.high:g}"
        return f"{self.column}_from_{self.low:g}" + ("" if self.high is None else f"_to_{self.high:g}")

    def admits(self, event: Event) -> bool:
        """Whether the event stays."""
        if self.events and event.event_type not in self.events:
            return True
        return self._matches(self._read(event)) != self.drop

    def _read(self, event: Event) -> Any:
        if self.column == "hour":
            return hour_of_day(event.occurred)
        if self.column == "weekday":
            return WEEKDAYS[weekday(event.occurred)]
        return event.properties.get(self.column)

    def _matches(self, value: Any) -> bool:
        if value is None:
            return False
        if not self.is_range:
            return (str(value).lower() if isinstance(value, bool) else str(value)) in self.values
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def expression(self, table: ir.Table, value: Any) -> Any:
        """The same over `table` with the columns event_type and occurred; `value` is the property's column."""
        if self.column == "hour":
            value = hour_of_day(table["occurred"])
        if self.column == "weekday":
            # The number of the day: names would be text made for every row.
            matches = weekday(table["occurred"]).isin(sorted(WEEKDAYS.index(day) for day in self.values))
        elif not self.is_range:
            matches = value.cast("string").isin(sorted(self.values))
        else:
            low = value >= self.low if self.low is not None else None
            high = value <= self.high if self.high is not None else None
            matches = high if low is None else low if high is None else low & high
        matches = matches.fill_null(False)
        stays = ~matches if self.drop else matches
        return stays | ~table["event_type"].isin(sorted(self.events)) if self.events else stays
