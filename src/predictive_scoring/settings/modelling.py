"""What is learned and how: conversion, cutoffs, periods, the line of readiness."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from predictive_scoring.settings.base import Instant, Name, Seconds, Settings, Texts
from predictive_scoring.timeline import DAY


class ConversionSettings(Settings):
    """What counts as conversion.

    For event logs: the first event of type `event` within `horizon` of the cutoff; `until` names a lead
    column that ends the window earlier (a campaign's last day). For snapshots: `column` equals
    `positive`.

    `horizons` are further horizons that every score answers for, on one rising curve. `censoring` says what
    becomes of examples whose window has not passed yet: `drop` waits for them, `weights` uses the conversions
    already seen and weighs them up, `auto` does so where the history is short. `expected_rate` is the share
    that you expect to convert before there is any data; it allows a start without a single conversion."""

    event: Name | None = None
    horizon: Seconds
    until: str | None = None
    column: str | None = None
    positive: str | None = None
    horizons: tuple[Seconds, ...] = ()
    censoring: Literal["auto", "drop", "weights"] = "auto"
    expected_rate: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.event is None) == (self.column is None):
            raise ValueError("give `event` (event log) or `column` with `positive` (snapshot)")
        if self.column is not None and self.positive is None:
            raise ValueError("`column` needs `positive`: the value that means converted")
        return self

    @property
    def horizon_days(self) -> int:
        return max(1, round(self.horizon / DAY))


class CutoffSettings(Settings):
    """When leads are observed for training: on a grid, or each once at its creation."""

    at: Literal["created_at"] | None = None
    every: Seconds | None = None
    first: Instant | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.at is None and (self.every is None or self.first is None):
            raise ValueError("give `every` and `first`, or `at: created_at`")
        if self.at is not None and (self.every is not None or self.first is not None):
            raise ValueError("`at` stands alone: remove `every` and `first`")
        return self


class SplitSettings(Settings):
    """The newest `test` share of the examples is the test period, the `calibrate` share before it
    calibrates, the rest trains. With `test_from` the test period starts at that instant, `test` is not
    read, and `calibrate` is the share of the examples before it."""

    calibrate: float = Field(default=0.2, gt=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)
    test_from: Instant | None = None

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        if self.calibrate + self.test >= 1:
            raise ValueError("calibrate and test together must leave rows to train on")
        return self


class ReadinessSettings(Settings):
    """Where `nurture` ends and `ready` begins: by sales capacity or by expected value."""

    weekly_capacity: int | None = Field(default=None, gt=0)
    share: float | None = Field(default=None, gt=0, lt=1)
    value_per_win: float | None = Field(default=None, gt=0)
    win_rate: float | None = Field(default=None, gt=0, le=1)
    cost_per_lead: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        by_value = (self.value_per_win, self.win_rate, self.cost_per_lead)
        given = (
            (self.weekly_capacity is not None)
            + (self.share is not None)
            + any(part is not None for part in by_value)
        )
        if given != 1:
            raise ValueError(
                "give one of: `weekly_capacity`; `share`; `value_per_win` with `win_rate` and `cost_per_lead`"
            )
        if any(part is not None for part in by_value) and None in by_value:
            raise ValueError("the value rule needs `value_per_win`, `win_rate` and `cost_per_lead`")
        return self


class WaiverSettings(Settings):
    """A finding of the audit that somebody looked into and takes responsibility for: training goes on."""

    code: str = Field(pattern=r"^PS\d{3}$")
    feature: str
    reason: str = Field(min_length=10)


class PointsRule(Settings):
    """One line of the points card: what you believe before there is data.

    `points` for a lead whose `feature` lies between `min` and `max` (both inclusive) or equals one of the
    texts; ten points double the odds."""

    feature: str
    points: float = Field(ge=-60, le=60)
    min: float | None = None
    max: float | None = None
    equals: Texts | None = None

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        in_range = self.min is not None or self.max is not None
        if in_range == (self.equals is not None):
            raise ValueError("give `min`, `max` or both for a number, or `equals` for a category")
        return self


class RetentionSettings(Settings):
    """How long the store keeps what it does not need any more.

    `scores` is the time after which a score goes that a newer one of its lead followed (default 400 days: a year can be
    compared with the one before it)."""

    scores: Seconds = 400 * DAY


class MonitoringSettings(Settings):
    """When `monitor` raises an alarm, and for which groups of leads quality is shown.

    `segments` are attributes (default: every category among `attributes`). `psi` is the population stability
    index from which a distribution counts as moved."""

    segments: tuple[str, ...] | None = None
    psi: float = Field(default=0.25, gt=0)
