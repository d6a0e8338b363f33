"""Filters of the ranked list, shared by the interface and the pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ReadinessFilter = Literal["ready", "nurture", "unscored"]


@dataclass(frozen=True)
class Selection:
    """What a reader wants to see; None and "" mean everything. `unscored` are leads without a score, `search` is a
    part of the id."""

    readiness: ReadinessFilter | None = None
    stage: str | None = None
    search: str = ""
