"""A lead forgotten, everywhere: tables, kept answers, messages under way, kept feature vectors.

What stays is a keyed hash of each of its ids, so that a late event does not bring it back, and a row of the
audit log that says that a lead was erased, with counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import delete, select

from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.audit import note
from predictive_scoring.keeping.store.connection import Store, Transaction
from predictive_scoring.keeping.store.forgetting import forget_vectors
from predictive_scoring.keeping.store.identity import aliases_of
from predictive_scoring.keeping.store.messages import ANONYMOUS, check_text
from predictive_scoring.keeping.store.tables import MOST_ID
from predictive_scoring.keeping.vectors import VectorLog


@dataclass(frozen=True)
class Erased:
    """How many rows went, by table, how many lines of kept vectors, and how many rows of connectors' folders. All
    zero: nothing was there."""

    rows: dict[str, int] = field(default_factory=dict)
    vectors: int = 0
    landed: int = 0

    @property
    def total(self) -> int:
        return sum(self.rows.values()) + self.vectors + self.landed


def erase_lead(
    store: Store, lead_id: str, *, now: int, actor: str, vectors: Sequence[VectorLog] = ()
) -> Erased:
    """Erase a lead by any of its ids, also one that was never seen (it then cannot come). May be repeated.

    Raises InvalidValue for an id that nobody can have; StoreUnavailable and UnreadableFile: call it again. On
    return the database's own files are cleared of it too, as far as the database can: SQLite overwrites pages and
    log, PostgreSQL vacuums the tables."""
    check_text(lead_id, "lead_id", MOST_ID + len(ANONYMOUS))
    ids = store.read(lambda tx: ids_of(tx, lead_id))
    lines = sum(forget_vectors(log, ids) for log in vectors)
    rows = store.write(lambda tx: erase_rows(tx, lead_id, now=now, actor=actor, vectors=lines))
    # A worker may have kept a vector in between; from here on none can be: the lead has no row.
    lines += sum(forget_vectors(log, ids) for log in vectors)
    if any(rows.values()):
        scrub(store)
    return Erased(rows, lines)


def ids_of(tx: Transaction, lead_id: str) -> tuple[str, ...]:
    """Every id of the lead that one of its ids names: its own, its earlier ones, its visitor's."""
    own = aliases_of(tx, [lead_id]).get(lead_id, lead_id)
    alias = tables.lead_aliases
    others = (row.alias for row in tx.rows(select(alias.c.alias).where(tx.among(alias.c.lead_id, [own]))))
    return tuple(dict.fromkeys((own, lead_id, *others)))


def erase_rows(tx: Transaction, lead_id: str, *, now: int, actor: str, vectors: int = 0) -> dict[str, int]:
    """The part of an erasure that is in the database, as one transaction: rows gone, by table."""
    tx.lock("history")
    tx.lock("scores")
    ids = ids_of(tx, lead_id)
    stones = [{"lead_hash": tx.pseudonym(one), "erased": now} for one in ids]
    tx.insert_rows(tables.tombstones, stones, lambda insert: insert.on_conflict_do_nothing())
    answers = tables.idempotency_leads
    mentioned = tx.rows(
        select(answers.c.caller, answers.c.key).where(tx.among(answers.c.lead_id, ids)).distinct()
    )
    counts: dict[str, int] = {}
    for caller, key in mentioned:
        for table in (tables.idempotency, answers):
            gone = tx.execute(delete(table).where(table.c.caller == caller, table.c.key == key))
            counts[table.name] = counts.get(table.name, 0) + gone.rowcount
    for table in tables.OF_A_LEAD:
        gone = tx.execute(delete(table).where(tx.among(table.c.lead_id, ids)))
        counts[table.name] = counts.get(table.name, 0) + gone.rowcount
    details = {"rows": sum(counts.values()), "vectors": vectors}
    note(tx, now, actor, "lead_erased", lead_id=ids[0], details=details)
    return counts


def scrub(store: Store) -> None:
    """Let nothing of what was deleted stand in the database's files."""
    if store.is_sqlite:
        with store.engine.connect().execution_options(alone=True) as connection:
            # Deleted pages were overwritten (secure_delete); the log still holds what they were.
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
        return
    names = ", ".join(table.name for table in (*tables.OF_A_LEAD, tables.idempotency))
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"VACUUM {names}")
