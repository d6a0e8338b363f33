"""Who is scored now, and which examples of the past they may be compared with.

In a log that has only begun, the open leads grow older from month to month, and everything that goes with age moves
without any cause. Leads that arrived in the last 90 days are of the same age at any instant, so they are the
population whose drift means something, in training (`newcomers`) as in monitoring (`population_now`). The day of the
week matters as much: on a Monday the last visit lies further back than on a Friday.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from predictive_scoring.data.dataset import conversions, opted_out
from predictive_scoring.data.inflow import INFLOW_DAYS
from predictive_scoring.data.sources import Tables
from predictive_scoring.settings.modelling import CutoffSettings
from predictive_scoring.timeline import DAY, WEEK, exists_at


def newcomers(tables: Tables, observations: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """True (n,) where the observation's lead had arrived in the INFLOW_DAYS before its cutoff."""
    if tables.outcome is not None:
        return np.ones(len(observations), dtype=bool)
    created = observations["lead_id"].map(tables.leads.set_index("lead_id")["created"]).to_numpy()
    fresh: npt.NDArray[np.bool_] = observations["cutoff"].to_numpy() - created < INFLOW_DAYS * DAY
    return fresh


def population_now(tables: Tables, *, arrived: bool, skip: int = 0) -> pd.DataFrame:
    """Observations (observation_id, lead_id, cutoff) of those who are scored now.

    Of a log: the leads open at the last instant before `observed_until` that falls on a weekday and hour of the
    training's cutoffs, or with `arrived` those among them that came in the INFLOW_DAYS before it (each at its own
    creation where the project observes leads then). Of a snapshot: the rows after the
    first `skip`. Whoever opted out is not among them."""
    project, leads = tables.project, tables.leads
    until = _in_step(project.cutoffs, tables.observed_until)
    kept = ~opted_out(leads, project)
    if tables.outcome is not None:
        chosen = leads[kept].iloc[skip:]
        return _observations(chosen["lead_id"], chosen["created"])
    kept &= exists_at(leads["created"], until)
    if arrived:
        kept &= until - leads["created"] < INFLOW_DAYS * DAY
    if project.cutoffs is not None and project.cutoffs.at == "created_at":
        chosen = leads[kept]
        return _observations(chosen["lead_id"], chosen["created"])
    converted = leads["lead_id"].map(conversions(tables))
    chosen = leads[kept & ~(converted < until)]
    return _observations(chosen["lead_id"], pd.Series(until, index=chosen.index))


def _in_step(cutoffs: CutoffSettings | None, until: int) -> int:
    """The last instant up to `until` in step with the grid of cutoffs: same weekday and hour, or same hour."""
    if cutoffs is None or cutoffs.every is None or cutoffs.first is None or until < cutoffs.first:
        return until
    step = next((size for size in (WEEK, DAY) if cutoffs.every % size == 0), cutoffs.every)
    return until - (until - cutoffs.first) % step


def _observations(lead_id: pd.Series, cutoff: pd.Series) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "observation_id": np.arange(len(lead_id), dtype=np.int64),
            "lead_id": lead_id.to_numpy(),
            "cutoff": cutoff.to_numpy(dtype=np.int64),
        }
    )
