"""Scores of stored leads, for the service, the background worker and bulk jobs alike.

What the store knows reaches up to `observed_until`. Without another wish a stored lead is scored at that
instant: the store says nothing about later, and silence would look like disinterest.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from predictive_scoring.errors import PredictiveScoringError
from predictive_scoring.keeping.store.activity import Feedback, latest_feedback
from predictive_scoring.keeping.store.connection import Store, Transaction
from predictive_scoring.keeping.store.histories import read_lead, read_leads
from predictive_scoring.keeping.store.observed import observed_until
from predictive_scoring.keeping.store.scores import HoldingScore, holding_scores, rank_of, sides
from predictive_scoring.schema import Lead, Score
from predictive_scoring.scoring import Scorer, Served, Sides

log = logging.getLogger("predictive_scoring.live")


@dataclass(frozen=True)
class StoredScore:
    """A stored lead's score and the values of the model's features that it was made of. `score.lead_id` is the
    lead's own id, also where another one of its ids was asked for."""

    score: Score
    vector: Mapping[str, Any]


@dataclass(frozen=True)
class ScoredLeads:
    """Scores by the lead's own id, and the ids whose scoring failed (the log says why)."""

    scores: Mapping[str, StoredScore] = field(default_factory=dict)
    failed: frozenset[str] = frozenset()


def score_leads(
    scorer: Scorer,
    leads: Sequence[Lead],
    as_of: int,
    *,
    served: Served | None = None,
    previous: Sides | None = None,
) -> ScoredLeads:
    """Scores of leads in hand (each id once) at `as_of` (epoch seconds). One that cannot be scored costs only
    itself."""
    scores: dict[str, StoredScore] = {}

    def keep(documents: Sequence[Score], values: Sequence[Mapping[str, Any]]) -> None:
        for score, vector in zip(documents, values, strict=True):
            scores[score.lead_id] = StoredScore(score, vector)
        if served is not None:
            served(documents, values)

    if not leads:
        return ScoredLeads()
    try:
        scorer.score_many(leads, as_of, keep, previous)
    except (ArithmeticError, LookupError, TypeError, ValueError, PredictiveScoringError):
        # Reading lets nothing through that should end here; if something does, it costs one lead, not all.
        log.exception("scoring %d leads together failed; scoring them one by one", len(leads))
    else:
        return ScoredLeads(scores)
    failed: set[str] = set()
    for lead in leads:
        try:
            scorer.score(lead, as_of, keep, previous)
        except (ArithmeticError, LookupError, TypeError, ValueError, PredictiveScoringError):
            failed.add(lead.lead_id)
    return ScoredLeads(scores, frozenset(failed))


@dataclass(frozen=True)
class StoredScores:
    """The answer to `score_stored`: the id behind each id that was asked for and is known, and the scores."""

    leads: Mapping[str, str]
    scored: ScoredLeads
    as_of: int

    def of(self, asked: str) -> StoredScore | None:
        """The score of the lead that `asked` means; None for an unknown one and one whose scoring failed."""
        return self.scored.scores.get(self.leads.get(asked, ""))


def score_stored(
    store: Store,
    scorer: Scorer,
    lead_ids: Sequence[str],
    as_of: int | None = None,
    served: Served | None = None,
) -> StoredScores:
    """Score stored leads by any of their ids, at `as_of` (epoch seconds) or as far as the store knows.

    A lead near the line of readiness stays on the side of its last score unless it crosses clearly. Everything is
    read as of one instant; nothing is kept. Raises StoreUnavailable."""

    def read(tx: Transaction) -> tuple[dict[str, Lead], Sides, int]:
        found = read_leads(tx, lead_ids, scorer.scoring.project)
        own = sorted({lead.lead_id for lead in found.values()})
        return found, sides(tx, own), observed_until(tx) if as_of is None else as_of

    found, previous, at = store.read(read)
    distinct = list({lead.lead_id: lead for lead in found.values()}.values())
    scored = score_leads(scorer, distinct, at, served=served, previous=previous)
    return StoredScores({asked: lead.lead_id for asked, lead in found.items()}, scored, at)


@dataclass(frozen=True)
class LeadInView:
    """A stored lead, the score that holds of it, its rank among all (None: without a probability), and what was last
    said of it."""

    lead: Lead
    score: Score
    rank: int | None
    feedback: Feedback | None


def lead_in_view(store: Store, scorer: Scorer, lead_id: str) -> LeadInView:
    """A stored lead by any of its ids, and its score: the kept one, unless the lead changed or another model serves
    since; then one made now, which nothing keeps. Raises UnknownLead, StoreUnavailable."""

    def read(tx: Transaction) -> tuple[Lead, HoldingScore | None, int | None, Feedback | None, Sides, int]:
        lead = read_lead(tx, lead_id, scorer.scoring.project)
        own = lead.lead_id
        said, holding = latest_feedback(tx, own), holding_scores(tx, [own]).get(own)
        return lead, holding, rank_of(tx, own), said, sides(tx, [own]), observed_until(tx)

    lead, holding, rank, said, previous, until = store.read(read)
    if holding is not None and holding.bundle == scorer.reference.bundle:
        return LeadInView(lead, Score.model_validate_json(holding.document), rank, said)
    return LeadInView(lead, scorer.score(lead, until, previous=previous), rank, said)


def documents_that_hold(store: Store, scorer: Scorer, lead_ids: Sequence[str]) -> dict[str, str]:
    """Score documents (JSON) of stored leads by any of their ids, where one was kept that holds: see `lead_in_view`.
    Raises StoreUnavailable."""
    found = store.read(lambda tx: holding_scores(tx, lead_ids))
    return {one: kept.document for one, kept in found.items() if kept.bundle == scorer.reference.bundle}
