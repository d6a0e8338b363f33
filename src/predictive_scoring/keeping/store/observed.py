"""How far the store knows the world: the default `as_of` of every stored lead.

One number for all leads, raised with each batch. A store that is told nothing for a day does not know that
nothing happened in that day, so its scores are those of a day ago."""

from __future__ import annotations

from sqlalchemy import BigInteger, cast

from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.connection import Transaction
from predictive_scoring.keeping.store.facts import read_fact

OBSERVED = "observed_until"


def observed_until(tx: Transaction) -> int:
    """The exclusive end of what the store knows (epoch seconds, UTC): the newest `known` and one second; 0 when it
    was told nothing."""
    return int(read_fact(tx, OBSERVED) or 0)


def raise_observed(tx: Transaction, until: int) -> None:
    """What comes before `until` (epoch seconds) is known now. Never lowers it. Needs the lock `history`."""
    facts = tables.facts
    insert = tx.insert(facts).values(name=OBSERVED, value=str(until))
    higher = cast(facts.c.value, BigInteger) < until
    tx.execute(
        insert.on_conflict_do_update(
            index_elements=[facts.c.name], set_={"value": insert.excluded.value}, where=higher
        )
    )
