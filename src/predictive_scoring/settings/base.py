"""What every block of the project file is made of: frozen models, durations, instants, names."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from predictive_scoring.errors import PredictiveScoringError
from predictive_scoring.timeline import parse_duration, parse_instant


def _duration(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except PredictiveScoringError as refused:
            raise ValueError(f"{refused.what}. {refused.remedy}") from refused
    return _seconds(value, info, "a duration has a unit: write for example 30d")


def _instant(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str):
        try:
            return parse_instant(value)
        except PredictiveScoringError as refused:
            raise ValueError(f"{refused.what}. {refused.remedy}") from refused
    return _seconds(value, info, "an instant has an offset: write for example 2026-01-05T09:00:00Z")


def _seconds(value: object, info: ValidationInfo, refusal: str) -> object:
    """Whole seconds, as a bundle keeps them. In a file that people write, `30` would be 30 seconds."""
    if isinstance(value, bool) or (info.context or {}).get("written"):
        raise ValueError(refusal)
    return value


def _texts(value: object) -> object:
    """One text or several. YAML reads `true` as a boolean, which every engine spells `true`."""
    if isinstance(value, dict | BaseModel):
        return value
    several = value if isinstance(value, list | tuple) else [value]
    return [
        str(one).lower() if isinstance(one, bool) else str(one) if isinstance(one, int) else one
        for one in several
    ]


Texts = Annotated[tuple[str, ...], BeforeValidator(_texts), Field(min_length=1)]
Seconds = Annotated[int, BeforeValidator(_duration), Field(gt=0)]
Instant = Annotated[int, BeforeValidator(_instant)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", max_length=64)]


class Settings(BaseModel):
    """Base of every block: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
