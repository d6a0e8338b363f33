"""The ranked list of stored leads, for the interface and the pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from predictive_scoring.schema import Score
from predictive_scoring.settings import Project
from predictive_scoring.timeline import format_instant

from .bodies import LeadPage, LeadSummary
from .selection import Selection
from .wording import next_action

if TYPE_CHECKING:
    from predictive_scoring.keeping.store.connection import Store, Transaction

ABOUT = 2
"""Descriptive attributes shown beside a lead's id."""


@dataclass(frozen=True)
class Listing:
    """A page of the ranked list; `known` counts the stored leads, `waiting` those that are to be scored (again)."""

    page: LeadPage
    readiness_counts: Mapping[str, int]
    stage_counts: Mapping[str, int]
    known: int
    waiting: int


def list_leads(store: Store, project: Project, selection: Selection, limit: int, offset: int) -> Listing:
    """The leads that match, the most promising first. Raises StoreUnavailable."""
    from predictive_scoring.keeping.store.histories import attributes_today, count_leads
    from predictive_scoring.keeping.store.observed import observed_until
    from predictive_scoring.keeping.store.rescoring import backlog
    from predictive_scoring.keeping.store.scores import counts, ranked

    shown = [
        setting.of or name
        for name, setting in project.attributes.items()
        if setting.type == "category" and setting.transform is None
    ][:ABOUT]

    def read(tx: Transaction) -> Listing:
        ranking = ranked(
            tx,
            readiness=selection.readiness,
            stage=selection.stage,
            search=selection.search.strip(),
            limit=limit,
            offset=offset,
        )
        about = attributes_today(tx, [row.lead_id for row in ranking.rows])
        sizes = counts(tx)
        return Listing(
            LeadPage(
                as_of=format_instant(observed_until(tx)),
                total=ranking.total,
                limit=limit,
                offset=offset,
                leads=tuple(
                    summary(
                        Score.model_validate_json(row.document), row.rank, about.get(row.lead_id, {}), shown
                    )
                    for row in ranking.rows
                ),
            ),
            sizes.by_readiness,
            sizes.by_stage,
            count_leads(tx),
            backlog(tx, 0).waiting,
        )

    return store.read(read)


def summary(score: Score, rank: int | None, attributes: Mapping[str, Any], shown: list[str]) -> LeadSummary:
    """One line of the list."""
    values = (attributes.get(name) for name in shown)
    return LeadSummary(
        rank=rank,
        lead_id=score.lead_id,
        about=tuple(str(value) for value in values if value not in (None, "")),
        status=score.status,
        status_reason=score.status_reason,
        probability=score.probability,
        score=score.score,
        grade=score.grade,
        readiness=score.readiness,
        stage=score.stage,
        trend=score.trend,
        top_reason=score.reasons[0].text if score.reasons else None,
        next_action=next_action(score),
    )


def stored_so_far(store: Store) -> tuple[int, int]:
    """How many leads are stored, and how far the store knows (epoch seconds). Raises StoreUnavailable."""
    from predictive_scoring.keeping.store.histories import count_leads
    from predictive_scoring.keeping.store.observed import observed_until

    return store.read(lambda tx: (count_leads(tx), observed_until(tx)))
