"""The inflow: the leads that arrived lately and are still open. What sales can work is a line through it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from predictive_scoring.data.dataset import conversions, opted_out
from predictive_scoring.data.sources import Tables
from predictive_scoring.errors import TrainingImpossible
from predictive_scoring.timeline import DAY, exists_at, format_instant

INFLOW_DAYS = 90
"""How far back the inflow reaches (METHODS section 1)."""


def open_inflow(tables: Tables) -> pd.DataFrame:
    """Observations (observation_id, lead_id, cutoff) of the leads of the trailing 90 days, at the end of the log.

    Left out are leads that have converted or opted out: nobody can work them. Raises TrainingImpossible when no
    lead arrived at all, as in a snapshot, whose rows have no dates."""
    until, leads = tables.observed_until, tables.leads
    arrived = exists_at(leads["created"], until) & (leads["created"] > until - INFLOW_DAYS * DAY)
    if not arrived.any():
        raise TrainingImpossible(
            what=f"no lead arrived in the {INFLOW_DAYS} days before {format_instant(until)}",
            where="readiness.weekly_capacity",
            remedy="Correct `observed_until`, or draw the line with readiness.share.",
        )
    gone = leads["lead_id"].isin(conversions(tables).index) | opted_out(leads, tables.project)
    present = leads.loc[arrived & ~gone, "lead_id"].reset_index(drop=True)
    return pd.DataFrame(
        {
            "observation_id": np.arange(len(present), dtype=np.int64),
            "lead_id": present,
            "cutoff": np.int64(until),
        }
    )
