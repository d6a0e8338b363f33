"""Changed leads scored again, a batch at a time.

Leads are taken for a while, scored outside of any transaction, and reported done in the transaction that keeps
their scores. A worker that dies in between loses nothing and has kept nothing.
"""

from __future__ import annotations

from predictive_scoring.keeping.store.connection import Store, Transaction
from predictive_scoring.keeping.store.observed import observed_until
from predictive_scoring.keeping.store.rescoring import (
    done,
    mark_outdated,
    outdated,
    still_ours,
    take,
)
from predictive_scoring.live.delivery import Destinations
from predictive_scoring.live.kept import keep, score_all, to_keep
from predictive_scoring.scoring import Scorer
from predictive_scoring.timeline import DAY

BATCH = 100
LEASE = 30
"""Seconds for which leads are ours: many times what a batch takes. A killed worker's come up again then."""
OUTDATED_AT_ONCE = 500
"""Outdated leads marked together: what a lead that changes now has to wait for at most."""


def rescore_some(
    store: Store,
    scorer: Scorer,
    now: int,
    destinations: Destinations = (),
    *,
    limit: int = BATCH,
    lease: int = LEASE,
) -> tuple[int, int]:
    """Score up to `limit` leads that wait the longest: how many were taken, and how many of these failed.

    `now` is epoch seconds. Raises StoreUnavailable; nothing is then kept, and the leads come up again."""
    taken = store.write(lambda tx: take(tx, now, limit, lease))
    if not taken:
        return 0, 0
    found = score_all(store, scorer, [due.lead_id for due in taken])
    scored = to_keep(found, scorer)

    def write(tx: Transaction) -> None:
        ours = still_ours(tx, taken)
        ids = {found.leads.get(due.lead_id) for due in ours}
        keep(tx, [one for one in scored if one.score.lead_id in ids], destinations, now)
        done(tx, ours)

    store.write(write)
    return len(taken), len(found.scored.failed)


def mark_some_outdated(store: Store, scorer: Scorer, now: int, limit: int = OUTDATED_AT_ONCE) -> int:
    """Mark leads to be scored that have no score, one of another model, or one from more than a day before what the
    store knows by now: scores fall with inaction. How many; fewer than `limit` means that there are no more."""
    bundle = scorer.reference.bundle
    before = store.read(observed_until) - DAY
    if not store.read(lambda tx: outdated(tx, bundle=bundle, before=before, limit=1)):
        return 0
    return store.write(lambda tx: mark_outdated(tx, bundle=bundle, before=before, now=now, limit=limit))
