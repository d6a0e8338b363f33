"""Scores made and kept, with all that follows from them in the same transaction: cursors, latest scores, messages.

A lead whose scoring fails gets a score that says so: it does not stand there with an old one, and is not tried
again until something about it, or the model, changes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from predictive_scoring.errors import StoreUnavailable
from predictive_scoring.keeping.store.connection import Store, Transaction
from predictive_scoring.keeping.store.observed import observed_until
from predictive_scoring.keeping.store.outbox import post
from predictive_scoring.keeping.store.scores import Scored, append_scores
from predictive_scoring.live.delivery import Destinations, announcements
from predictive_scoring.live.stored import ScoredLeads, StoredScores, score_stored
from predictive_scoring.schema import Score
from predictive_scoring.scoring import Scorer
from predictive_scoring.timeline import format_instant

FAILED = "scoring_failed"
"""Why a lead has no score whose scoring failed."""

log = logging.getLogger("predictive_scoring.live")


def score_all(
    store: Store, scorer: Scorer, lead_ids: Sequence[str], as_of: int | None = None
) -> StoredScores:
    """`score_stored`, of which nothing but StoreUnavailable is raised: whatever goes wrong, in reading leads too, costs
    one lead."""
    try:
        return score_stored(store, scorer, lead_ids, as_of)
    except StoreUnavailable:
        raise
    # Work in the background has no caller to tell, and one lead must not stop all others for ever.
    except Exception:
        if len(lead_ids) == 1:
            log.exception("scoring_failed")
            at = store.read(observed_until) if as_of is None else as_of
            return StoredScores({one: one for one in lead_ids}, ScoredLeads(failed=frozenset(lead_ids)), at)
    parts = [score_all(store, scorer, [one], as_of) for one in lead_ids]
    return StoredScores(
        {asked: own for part in parts for asked, own in part.leads.items()},
        ScoredLeads(
            {own: score for part in parts for own, score in part.scored.scores.items()},
            frozenset().union(*(part.scored.failed for part in parts)),
        ),
        max(part.as_of for part in parts),
    )


def to_keep(found: StoredScores, scorer: Scorer) -> list[Scored]:
    """What is kept of these scores, in the order of lead ids. Of a lead that is not scored no vector is kept."""
    made = [
        Scored(one.score, one.vector if one.score.status == "scored" else None)
        for one in found.scored.scores.values()
    ]
    failed = (Scored(_failed(lead_id, found.as_of, scorer)) for lead_id in found.scored.failed)
    return sorted((*made, *failed), key=lambda one: one.score.lead_id)


def _failed(lead_id: str, as_of: int, scorer: Scorer) -> Score:
    return Score(
        lead_id=lead_id,
        as_of=format_instant(as_of),
        status="not_scored",
        status_reason=FAILED,
        horizon_days=scorer.scoring.project.conversion.horizon_days,
        model=scorer.reference,
    )


def keep(tx: Transaction, scored: Sequence[Scored], destinations: Destinations, now: int) -> int:
    """Keep scores made `now` (epoch seconds) and post what they change to the destinations of webhooks; how many
    were kept: leads that were erased or merged meanwhile are left out."""
    # Nobody else may change a latest score between the look at it and ours.
    tx.lock("scores", 0)
    messages = announcements(tx, scored, destinations, now)
    gone = set(append_scores(tx, scored, now))
    post(tx, [one for one in messages if one.lead_id not in gone], now)
    return sum(one.score.lead_id not in gone for one in scored)
