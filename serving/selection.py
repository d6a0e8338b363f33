"""Filters of the ranked list, shared by the interface and the pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .bodies import LeadSummary


@dataclass(frozen=True)
class Selection:
    """What a reader wants to see; None and "" mean everything. `unscored` are leads without a score."""

    readiness: str | None = None
    stage: str | None = None
    search: str = ""


def select(ranked: Sequence[LeadSummary], selection: Selection) -> list[LeadSummary]:
    """The leads that match, in rank order. The search is for a part of the id, in any case."""
    wanted = selection.search.strip().casefold()
    return [
        row
        for row in ranked
        if (selection.readiness is None or (row.readiness or "unscored") == selection.readiness)
        and (selection.stage is None or row.stage == selection.stage)
        and (not wanted or wanted in row.lead_id.casefold())
    ]
