"""The rows that a model has not learned from and whose outcome is known, oldest first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit

from predictive_scoring.data.dataset import observe
from predictive_scoring.data.feature_frame import feature_frame
from predictive_scoring.data.sources import Tables
from predictive_scoring.keeping.bundle import ScoringModel
from predictive_scoring.model.performance import FEWEST_CONVERSIONS
from predictive_scoring.timeline import DAY, is_matured, parse_instant

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

RECENT_DAYS = 90
"""How far back "lately" reaches, where that holds enough outcomes."""
RECENT_SHARE = 0.25
"""The same for rows without dates: the newest share of those that the model has not learned from."""
FITTED_DAYS, FITTED_CONVERSIONS = (30, 60, 90), 30
"""A level is refitted on the shortest of these spans that holds so many conversions: an older one tells of an older
level."""
JUDGED_FROM = (0.8, 0.67, 0.5, 0.9)
"""Where, as a share of the matured rows, those begin that judge a recalibration; the first that leaves both sides
enough outcomes is taken."""


@dataclass(frozen=True)
class Matured:
    """Rows after the data that the model knows, n in all.

    `observations` has lead_id, cutoff and horizon (epoch seconds, seconds); `frame` the model's features;
    `label` (n,) is 0/1; `margin` and `logit` (n,) are the model's, in log-odds. `seen` (n,) is True for rows of the
    test period that the model was judged on when it was trained. `dated` is False for snapshots."""

    observations: pd.DataFrame
    frame: pd.DataFrame
    label: npt.NDArray[np.int64]
    margin: Floats
    logit: Floats
    seen: Mask
    dated: bool

    @property
    def probability(self) -> Floats:
        result: Floats = expit(self.logit)
        return result

    @property
    def leads(self) -> npt.NDArray[np.object_]:
        return self.observations["lead_id"].to_numpy(dtype=object)

    @property
    def newest(self) -> Mask:
        """The rows that stand for "lately": those after the test period, of the last 90 days if these hold enough
        outcomes; all rows where there is too little after the test period."""
        after = ~self.seen
        for chosen in (after & self._recent(after), after):
            if self._enough(chosen):
                return chosen
        everything = np.ones(len(self.label), dtype=bool)
        recent = self._recent(everything)
        return recent if self._enough(recent) else everything

    def split(self) -> tuple[Mask, Mask] | None:
        """(rows to fit a new level on, newer rows to judge it on), or None when there are too few outcomes.

        Every outcome of the first was known before any of the second was scored, and the first reach back no further
        than FITTED_CONVERSIONS need."""
        for share in JUDGED_FROM:
            fitted, judged = self._split_at(share)
            if self._enough(fitted) and self._enough(judged):
                return fitted, judged
        return None

    def _split_at(self, share: float) -> tuple[Mask, Mask]:
        n = len(self.label)
        place = np.arange(n)
        start = min(int(n * share), max(n - 1, 0))
        if not self.dated:
            # As many rows to fit on as to judge on: older ones tell of an older level.
            return (place < start) & (place >= 2 * start - n), place >= start
        cutoff = self.observations["cutoff"].to_numpy()
        horizon = self.observations["horizon"].to_numpy()
        border = int(cutoff[start]) if n else 0
        known = cutoff + horizon <= border
        last = int(cutoff[known].max()) if known.any() else border
        fitted: Mask = known
        for days in FITTED_DAYS:
            fitted = known & (cutoff > last - days * DAY)
            if int(self.label[fitted].sum()) >= FITTED_CONVERSIONS:
                break
        return fitted, cutoff >= border

    def _recent(self, among: Mask) -> Mask:
        if not among.any():
            return among
        if not self.dated:
            place = np.cumsum(among)
            newest: Mask = among & (place > (1.0 - RECENT_SHARE) * place[-1])
            return newest
        cutoff = self.observations["cutoff"].to_numpy()
        recent: Mask = among & (cutoff > int(cutoff[among].max()) - RECENT_DAYS * DAY)
        return recent

    def _enough(self, chosen: Mask) -> bool:
        conversions = int(self.label[chosen].sum())
        return min(conversions, int(chosen.sum()) - conversions) >= FEWEST_CONVERSIONS


def matured_rows(scoring: ScoringModel, tables: Tables) -> Matured:
    """Rows of the tables that the model has not learned from, with features and outcomes.

    Of a log: cutoffs after the last that trained or calibrated, whose whole label window has passed. Of a snapshot,
    which has no dates: the rows after as many as trained and calibrated. Raises the errors of `observe`."""
    observations = observe(tables)
    dated = tables.outcome is None
    periods: Mapping[str, Any] = scoring.metrics["periods"]
    learned = {name: part for name, part in periods.items() if name != "test"}
    test = periods.get("test", {})
    if dated:
        whole = is_matured(observations["cutoff"], observations["horizon"], tables.observed_until)
        cutoff = observations["cutoff"]
        chosen = whole & (cutoff > max(map(_last_cutoff, learned.values()), default=-1))
        seen = cutoff <= _last_cutoff(test)
    else:
        place = pd.Series(np.arange(len(observations)), index=observations.index)
        known = rows_known(periods)
        chosen, seen = place >= known, place < known + int(test.get("examples", 0))
    rows = observations[chosen].reset_index(drop=True)
    frame = feature_frame(tables, rows, scoring.features)
    margin = scoring.model.propensity.margin(frame) if len(rows) else np.empty(0)
    return Matured(
        rows,
        frame,
        rows["label"].to_numpy(dtype=np.int64),
        margin,
        scoring.model.calibration.logit(margin),
        seen[chosen].to_numpy(dtype=bool),
        dated,
    )


def rows_known(periods: Mapping[str, Any]) -> int:
    """How many rows of a snapshot a model has learned from."""
    return sum(int(part["examples"]) for name, part in periods.items() if name != "test")


def _last_cutoff(part: Mapping[str, Any]) -> int:
    text = part.get("last_cutoff")
    return -1 if not text else parse_instant(text)
