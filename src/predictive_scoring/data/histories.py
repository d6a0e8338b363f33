"""Rows of the canonical tables as records: leads with their events and touches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from predictive_scoring.schema import AttributeChange, Event, Lead, Touch


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as plain records; missing cells are None."""
    names = [str(name) for name in frame.columns]
    plain = frame.astype(object).where(frame.notna(), None).to_numpy()
    return [dict(zip(names, row, strict=True)) for row in plain]


def lead_records(
    leads: pd.DataFrame,
    events: pd.DataFrame,
    touches: pd.DataFrame,
    properties: Sequence[str],
    changes: pd.DataFrame | None = None,
) -> dict[str, Lead]:
    """Leads by id from their canonical rows; `events`, `touches` and `changes` hold nobody else's."""
    logged: dict[str, list[Event]] = {}
    for row in records(events):
        event = Event(
            str(row["event_id"]),
            str(row["event_type"]),
            int(row["occurred"]),
            int(row["known"]),
            {name: row[name] for name in properties},
        )
        logged.setdefault(str(row["lead_id"]), []).append(event)
    touched = touches_by_lead(touches)
    changed: dict[str, list[AttributeChange]] = {}
    for row in records(changes) if changes is not None else ():
        change = AttributeChange(
            str(row["event_type"]), str(row["value"]), int(row["occurred"]), int(row["known"])
        )
        changed.setdefault(str(row["lead_id"]), []).append(change)
    return {
        str(row["lead_id"]): Lead(
            lead_id=str(row["lead_id"]),
            created=int(row["created"]),
            attributes={key: value for key, value in row.items() if key not in ("lead_id", "created")},
            events=tuple(logged.get(row["lead_id"], ())),
            touches=touched.get(row["lead_id"], ()),
            changes=tuple(changed.get(row["lead_id"], ())),
        )
        for row in records(leads)
    }


def touches_by_lead(touches: pd.DataFrame) -> dict[str, tuple[Touch, ...]]:
    """Every lead's touches, oldest first, by lead id."""
    found: dict[str, list[Touch]] = {}
    for row in records(touches.sort_values(["occurred", "touch_id"])):
        touch = Touch(str(row["touch_id"]), str(row["action_id"]), str(row["channel"]), int(row["occurred"]))
        found.setdefault(str(row["lead_id"]), []).append(touch)
    return {lead_id: tuple(entries) for lead_id, entries in found.items()}
