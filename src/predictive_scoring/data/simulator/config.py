"""What a simulated world is made from: one frozen, validated record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from predictive_scoring.errors import InvalidSetting

LEAKS: tuple[str, ...] = (
    "late_value",
    "near_pure_level",
    "fill_rate",
    "suspicious_name",
    "overwritten_field",
)
"""Names of the target leaks that can be planted; `leaks.py` says exactly what each one plants."""


@dataclass(frozen=True)
class SimulationConfig:
    """Everything that decides a simulated world; the same record always gives the same world.

    Attributes:
        seed: seed of every random stream, >= 0.
        leads: number of leads, >= 1.
        start: first instant of the history; midnight, UTC. Timestamps lie in `[start, start + days)`.
        days: length of the history in days, >= 30.
        growth: rise of the daily number of new leads from first to last day, as a share of the first (0.5 = +50 %).
        hazard_scale: factor on every conversion hazard; 1.0 gives a 30-day conversion rate near 4 %.
        holdout_share: share of leads that are never touched, in [0, 1).
        touch_interval_days: days from one randomised touch decision on a lead to the next, >= 18, so that the
            effects of two touches never overlap.
        touch_strength: factor on every touch effect; 0.0 is the null world in which no action works.
        leaks: names from `LEAKS` to plant; none by default.

    Raises:
        InvalidSetting: a value is out of its range or `start` is not midnight UTC.
    """

    seed: int = 0
    leads: int = 5_000
    start: datetime = datetime(2025, 1, 1, tzinfo=UTC)
    days: int = 545
    growth: float = 0.5
    hazard_scale: float = 1.0
    holdout_share: float = 0.07
    touch_interval_days: int = 21
    touch_strength: float = 1.0
    leaks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed", self.seed, "0 or more")
        _require(self.leads >= 1, "leads", self.leads, "1 or more")
        _require(self.days >= 30, "days", self.days, "30 or more")
        _require(0.0 <= self.growth <= 20.0, "growth", self.growth, "between 0 and 20")
        _require(0.0 < self.hazard_scale <= 20.0, "hazard_scale", self.hazard_scale, "above 0 and at most 20")
        _require(
            0.0 <= self.holdout_share < 1.0, "holdout_share", self.holdout_share, "at least 0 and below 1"
        )
        _require(
            self.touch_interval_days >= 18, "touch_interval_days", self.touch_interval_days, "18 or more"
        )
        _require(0.0 <= self.touch_strength <= 5.0, "touch_strength", self.touch_strength, "between 0 and 5")
        offset = self.start.utcoffset()
        midnight = self.start.replace(hour=0, minute=0, second=0, microsecond=0)
        _require(
            offset == timedelta(0) and self.start == midnight,
            "start",
            self.start,
            "midnight with time zone UTC",
        )
        unknown = [name for name in self.leaks if name not in LEAKS]
        _require(not unknown, "leaks", unknown, f"names from {', '.join(LEAKS)}")

    @property
    def start_seconds(self) -> int:
        """`start` in whole seconds since 1970-01-01 UTC."""
        return int(self.start.timestamp())

    @property
    def end(self) -> datetime:
        """First instant after the history (UTC)."""
        return self.start + timedelta(days=self.days)


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise InvalidSetting(
            what=f"{value!r} is out of range",
            where=f"SimulationConfig.{name}",
            remedy=f"Set it to {expected}.",
        )
