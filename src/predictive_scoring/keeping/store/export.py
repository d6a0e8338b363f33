"""Stored history as the tables that a project reads, so that `train` and `score` run on what the service was told.

The store is a file of rows for many small questions; training wants columns. So the tables are written out, as
the Parquet files that the project file names, and read like anybody's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Select, select

from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.connection import Transaction
from predictive_scoring.keeping.store.histories import Typing
from predictive_scoring.settings import Project

_AT_ONCE = 50_000


def tables_of(tx: Transaction, project: Project) -> dict[str, pd.DataFrame]:
    """Leads, events, attribute changes and touches of every known lead, with the columns that the project reads.

    Times are UTC timestamps. Anonymous visitors are left out: nobody can be asked to buy. Write them with
    `data.sinks.write_tables`."""
    typing = Typing(project)
    leads, events, consents = tables.leads, tables.events, tables.consents
    recorded: dict[str, list[Any]] = {}
    for row in tx.rows(select(consents).order_by(consents.c.lead_id, consents.c.occurred)):
        recorded.setdefault(row.lead_id, []).append(row)
    lead_rows = (
        {
            "lead_id": row.lead_id,
            "created_at": row.created,
            **typing.attributes(row.attributes, row.attribute_times, recorded.get(row.lead_id, ())),
        }
        for row in _rows(tx, select(leads).where(leads.c.identified).order_by(leads.c.lead_id))
    )
    event_rows = (
        {
            "event_id": row.event_id,
            "lead_id": row.lead_id,
            "event_type": row.event_type,
            "occurred_at": row.occurred,
            "known_at": row.known,
            **typing.properties(row.properties),
        }
        for row in _rows(tx, _of_known(select(events), events).order_by(events.c.lead_id, events.c.occurred))
    )
    changes, touches = tables.attribute_changes, tables.touches
    change_rows = (
        {
            "lead_id": row.lead_id,
            "attribute": row.attribute,
            "value": row.value,
            "occurred_at": row.occurred,
            "known_at": row.known,
        }
        for row in _rows(tx, _of_known(select(changes), changes))
    )
    touch_rows = (
        {
            "touch_id": row.touch_id,
            "lead_id": row.lead_id,
            "action_id": row.action_id,
            "channel": row.channel,
            "occurred_at": row.occurred,
            "propensity": row.propensity,
            "holdout": row.holdout,
        }
        for row in _rows(tx, _of_known(select(touches), touches))
    )
    lead_kinds = {"lead_id": "text", "created_at": "instant", **typing.kinds}
    event_kinds = {
        **dict.fromkeys(("event_id", "lead_id", "event_type"), "text"),
        **dict.fromkeys(("occurred_at", "known_at"), "instant"),
        **typing.property_kinds,
    }
    change_kinds = {
        **dict.fromkeys(("lead_id", "attribute", "value"), "text"),
        **dict.fromkeys(("occurred_at", "known_at"), "instant"),
    }
    touch_kinds = {
        **dict.fromkeys(("touch_id", "lead_id", "action_id", "channel"), "text"),
        "occurred_at": "instant",
        "propensity": "number",
        "holdout": "flag",
    }
    return {
        "leads": _frame(lead_rows, lead_kinds),
        "events": _frame(event_rows, event_kinds),
        "attribute_changes": _frame(change_rows, change_kinds),
        "touches": _frame(touch_rows, touch_kinds),
    }


def _of_known(wanted: Select[Any], table: Any) -> Select[Any]:
    leads = tables.leads
    return wanted.join(leads, leads.c.lead_id == table.c.lead_id).where(leads.c.identified)


def _rows(tx: Transaction, wanted: Select[Any]) -> Iterator[Any]:
    """The answer's rows, without holding all of them at once."""
    yield from tx.connection.execute(wanted.execution_options(yield_per=_AT_ONCE))


def _frame(rows: Iterator[Mapping[str, Any]], kinds: Mapping[str, str]) -> pd.DataFrame:
    columns: dict[str, list[Any]] = {name: [] for name in kinds}
    for row in rows:
        for name, values in columns.items():
            values.append(row[name])
    return pd.DataFrame({name: _series(values, kinds[name]) for name, values in columns.items()})


def _series(values: Sequence[Any], kind: str) -> pd.Series:
    if kind == "instant":
        # Whole seconds since 1970 up to 2199, which microseconds hold exactly.
        return pd.Series(np.array(values, dtype="datetime64[s]").astype("datetime64[us]")).dt.tz_localize(
            "UTC"
        )
    if kind == "number":
        return pd.Series(values, dtype="float64")
    if kind == "flag":
        return pd.Series(pd.array(values, dtype="boolean"))
    return pd.Series(values, dtype="str")
