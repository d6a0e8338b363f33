"""Readiness to train: what the conversions at hand are enough for, and when there will be enough for more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from predictive_scoring.timeline import DAY, format_instant

FEWEST_CONVERSIONS = 10
"""Below it no slope can be estimated, only a hand-written points card with a fitted intercept."""
FEW_CONVERSIONS = 60
"""Below it boosting only adds noise: the linear part is used."""
PACE_DAYS = 180
"""The newest days that tell the present pace."""
LONGEST_FORECAST = 3650
"""Days ahead beyond which no date is given."""

LEVELS = (
    (
        0,
        "rules",
        "train: a points card ranks the leads, its level fitted to them; no slope can be learned yet",
    ),
    (FEWEST_CONVERSIONS, "ridge", "train a ridge regression, best with expert points as one of its features"),
    (FEW_CONVERSIONS, "blend", "train the blend of ridge and boosting"),
)


@dataclass(frozen=True)
class Readiness:
    """What can be done with the conversions there are.

    `level` is `rules`, `ridge` or `blend`, `advice` the same in words. `missing` lists what stands against training
    now. `next_level`, `still_needed` and `enough_by` (a date, UTC) speak of the next level; None at the highest, and no
    date where the present pace (`per_month` conversions) would need more than ten years or is not known."""

    conversions: int
    level: str
    advice: str
    missing: tuple[str, ...]
    per_month: float | None
    next_level: str | None = None
    still_needed: int = 0
    enough_by: str | None = None

    @property
    def summary(self) -> str:
        """The readiness in sentences."""
        text = f"With {self.conversions:,} conversions: {self.advice}."
        if self.next_level is not None:
            text += f" For the {self.next_level} {self.still_needed} more are needed"
            if self.enough_by is not None:
                pace = f"at the present pace of {self.per_month:.1f} a month"
                text += f"; {pace} they will have matured by {self.enough_by}"
            text += "."
        return text

    def to_document(self) -> dict[str, Any]:
        return {**vars(self), "missing": list(self.missing)}


def readiness_of(
    conversions: int,
    converted_at: npt.ArrayLike,
    observed_until: int,
    horizon: int,
    missing: tuple[str, ...] = (),
) -> Readiness:
    """What `conversions` converted leads are enough for.

    `converted_at` are the instants of the conversions (epoch seconds; empty for a snapshot, whose pace is unknown); a
    label matures one `horizon` (seconds) after its cutoff."""
    reached = max(number for number, (fewest, _, _) in enumerate(LEVELS) if conversions >= fewest)
    _, level, advice = LEVELS[reached]
    instants = np.asarray(converted_at, dtype=np.int64)
    recent = int(((instants > observed_until - PACE_DAYS * DAY) & (instants <= observed_until)).sum())
    per_day = recent / PACE_DAYS if len(instants) else None
    per_month = None if per_day is None else round(per_day * 365.25 / 12, 2)
    if reached + 1 == len(LEVELS):
        return Readiness(conversions, level, advice, missing, per_month)
    fewest, next_level, _ = LEVELS[reached + 1]
    needed, enough_by = fewest - conversions, None
    if per_day and needed / per_day <= LONGEST_FORECAST:
        enough_by = format_instant(observed_until + math.ceil(needed / per_day) * DAY + horizon)[:10]
    return Readiness(conversions, level, advice, missing, per_month, next_level, needed, enough_by)


def thin_periods(examples: Mapping[str, tuple[int, int]]) -> tuple[str, ...]:
    """Periods with fewer conversions than a figure about them can bear, in words."""
    return tuple(
        f"the {period} period has only {converted} conversions among {number:,} examples"
        for period, (number, converted) in examples.items()
        if converted < FEWEST_CONVERSIONS
    )
