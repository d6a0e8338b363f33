"""Feature views of a project's own."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from predictive_scoring.schema import Direction, Group
from predictive_scoring.settings.base import Name, Seconds, Settings, Texts


class RangeSettings(Settings):
    """Numbers from `min` to `max`, both inclusive."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _some_end(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a range needs `min` or `max`")
        return self


class FeatureEntry(Settings):
    """One entry of a feature view: one feature per window or half-life."""

    aggregate: str
    events: tuple[str, ...] = Field(min_length=1)
    label: str
    concept: str
    group: Group = "engagement"
    window: Seconds | None = None
    windows: tuple[Seconds, ...] = ()
    column: str | None = None
    half_life: Seconds | None = None
    half_lives: tuple[Seconds, ...] = ()
    where: dict[str, Texts | RangeSettings] = Field(default_factory=dict)
    numerator: tuple[str, ...] = ()
    prior: Annotated[float, Field(ge=0, le=1)] | Literal["overall"] = 0.0
    strength: float = Field(default=0.0, ge=0)
    alias: str | None = None
    said: str | None = None
    none: str | None = None
    direction: Direction | None = None


class FeatureViewSettings(Settings):
    """A feature view of the project's own."""

    name: Name
    features: tuple[FeatureEntry, ...] = Field(min_length=1)
