"""What is true of the store as a whole, by name: how far it reaches, what was loaded, where a reader stands."""

from __future__ import annotations

from sqlalchemy import select

from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.connection import Transaction


def read_fact(tx: Transaction, name: str) -> str | None:
    """The value; None where nobody wrote one."""
    facts = tables.facts
    found = tx.rows(select(facts.c.value).where(facts.c.name == name))
    return str(found[0][0]) if found else None


def write_fact(tx: Transaction, name: str, value: str) -> None:
    """Write the value over the one before."""
    facts = tables.facts
    insert = tx.insert(facts).values(name=name, value=value)
    tx.execute(insert.on_conflict_do_update(index_elements=[facts.c.name], set_={"value": value}))


def facts_named(tx: Transaction, prefix: str) -> dict[str, str]:
    """The facts whose name begins with `prefix`, by name, in order."""
    facts = tables.facts
    wanted = select(facts).where(facts.c.name.startswith(prefix, autoescape=True)).order_by(facts.c.name)
    return {row.name: row.value for row in tx.rows(wanted)}
