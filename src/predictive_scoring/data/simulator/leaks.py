"""Target leaks planted on request, so that a leak screen can be shown to find them.

Each one imitates a mistake met in real CRM exports. Nothing else in the world changes when a leak is planted: the
honest rows and columns, their ids included, stay the same.

- `late_value`: events `crm_stage_update` for 80 % of the converted leads and 2 % of the others. `occurred_at` is
  backdated 1-25 days before the conversion, `known_at` is 1-5 days after it: only a reader that ignores `known_at` is
  fooled.
- `near_pure_level`: column `leads.lead_quality`, set from the outcome: "Not relevant" for 55 % of the leads that never
  converted and for no other, "High" for 70 % of the converted and 1 % of the others, else "Might be".
- `fill_rate`: column `leads.budget` (currency units), filled for 85 % of the converted and 20 % of the others; the
  amounts themselves are independent of the outcome.
- `suspicious_name`: column `leads.last_notable_activity`, today's value: "Meeting Booked" for 60 % of the converted
  and 4 % of the others, else one of four harmless levels.
- `overwritten_field`: column `leads.buying_role` with today's value. It starts at random, and sales overwrites it
  with "decision_maker" within two days after the conversion for 85 % of the converted (once the two days fit into
  the history). `attribute_changes` holds both values, so a replay at a cutoff differs from the column.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from predictive_scoring.data.simulator.leads import Flags, named, numbered
from predictive_scoring.data.simulator.localtime import DAY, Ints, timestamps

_QUALITY = ("Not relevant", "Might be", "High")
_NOTABLE = ("Meeting Booked", "Email Opened", "Page Visited", "Form Submitted", "Modified")
_ROLES = ("decision_maker", "influencer", "user", "unknown")


def add_late_value(
    rng: np.random.Generator,
    events: pd.DataFrame,
    lead_ids: pd.Series,
    created: Ints,
    converted: Ints,
    end: int,
) -> pd.DataFrame:
    """`events` with the backdated `crm_stage_update` rows, sorted by `occurred_at`; times are UTC seconds."""
    n = created.size
    chosen = np.flatnonzero(rng.random(n) < np.where(converted >= 0, 0.80, 0.02))
    # Leads that never converted get a moment of their own in place of the conversion.
    moment = np.where(converted >= 0, converted, created + (rng.random(n) * (end - created)).astype(np.int64))
    back = (DAY * rng.uniform(1, 25, n)).astype(np.int64)
    occurred = np.maximum(moment - back, created)[chosen]
    known = (moment + (DAY * rng.uniform(1, 5, n)).astype(np.int64))[chosen]
    rows = pd.DataFrame(
        {
            "event_id": numbered("E", len(events) + 1, chosen.size, 8),
            "lead_id": lead_ids.take(chosen).reset_index(drop=True),
            "event_type": pd.Series(["crm_stage_update"] * chosen.size, dtype="str"),
            "occurred_at": timestamps(occurred),
            "known_at": timestamps(known),
            "duration_seconds": np.full(chosen.size, np.nan),
            "topic": named(("",), np.full(chosen.size, -1)),
        }
    )
    together = pd.concat([events, rows], ignore_index=True)
    return together.sort_values("occurred_at", kind="stable", ignore_index=True)


def lead_quality(rng: np.random.Generator, converted: Flags) -> pd.Series:
    """The `near_pure_level` column."""
    u = rng.random(converted.size)
    code = np.where(converted, np.where(u < 0.70, 2, 1), np.where(u < 0.55, 0, np.where(u < 0.56, 2, 1)))
    return named(_QUALITY, code)


def budget(rng: np.random.Generator, converted: Flags) -> npt.NDArray[np.float64]:
    """The `fill_rate` column; NaN where not filled."""
    amount = np.round(np.exp(rng.normal(9.5, 0.8, converted.size)), -2)
    return np.where(rng.random(converted.size) < np.where(converted, 0.85, 0.20), amount, np.nan)


def last_notable_activity(rng: np.random.Generator, converted: Flags) -> pd.Series:
    """The `suspicious_name` column."""
    booked = rng.random(converted.size) < np.where(converted, 0.60, 0.04)
    return named(_NOTABLE, np.where(booked, 0, rng.integers(1, len(_NOTABLE), converted.size)))


def buying_role(
    rng: np.random.Generator, lead_ids: pd.Series, created: Ints, converted: Ints, end: int
) -> tuple[pd.Series, pd.DataFrame]:
    """The `overwritten_field` column and the changes that reveal it (columns as in `World.attribute_changes`)."""
    n = created.size
    first = rng.integers(0, len(_ROLES), n)
    moment = converted + rng.integers(600, 2 * DAY, n)
    overwritten = (converted >= 0) & (rng.random(n) < 0.85) & (moment < end)
    changed = np.flatnonzero(overwritten)
    lead = np.concatenate([np.arange(n), changed])
    occurred = np.concatenate([created, moment[changed]])
    changes = pd.DataFrame(
        {
            "lead_id": lead_ids.take(lead).reset_index(drop=True),
            "attribute": pd.Series(["buying_role"] * lead.size, dtype="str"),
            "value": named(_ROLES, np.concatenate([first, np.zeros(changed.size, dtype=np.int64)])),
            "occurred_at": timestamps(occurred),
            "known_at": timestamps(occurred),
        }
    )
    return named(_ROLES, np.where(overwritten, 0, first)), changes
