"""What stored leads wish: whoever opted out is neither scored nor described, however the lead is sent."""

from __future__ import annotations

from collections.abc import Sequence

from predictive_scoring.keeping.store.connection import Store, Transaction
from predictive_scoring.keeping.store.histories import attributes_behind, typed
from predictive_scoring.settings import Project


def opted_out(store: Store, lead_ids: Sequence[str], project: Project) -> frozenset[str]:
    """Those of `lead_ids` whose stored lead, by whichever of its ids, has opted out. Raises StoreUnavailable."""
    column = project.contact.opted_out
    if column is None or not lead_ids:
        return frozenset()

    def read(tx: Transaction) -> frozenset[str]:
        today = attributes_behind(tx, lead_ids)
        return frozenset(one for one, told in today.items() if typed(told.get(column), "flag") is True)

    return store.read(read)
