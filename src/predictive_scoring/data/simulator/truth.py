"""What really is: the probability of conversion given the hidden stage, and the effect of every touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from predictive_scoring.data.simulator.config import SimulationConfig
from predictive_scoring.data.simulator.leads import Population
from predictive_scoring.data.simulator.localtime import DAY, Floats, Ints
from predictive_scoring.data.simulator.process import (
    CONVERTED,
    STAGES,
    Rates,
    conversion_probability,
    move_probabilities,
)
from predictive_scoring.data.simulator.touches import (
    ACTION_IDS,
    DO_NOTHING,
    EFFECT_DAYS,
    TouchPlan,
    log_hazard_shift,
)
from predictive_scoring.errors import InvalidSetting, NaiveTimestamp, UnknownLead

Moments: TypeAlias = datetime | Sequence[datetime] | pd.Series | pd.DatetimeIndex
"""One time-zone-aware instant, or several."""

_DO_NOTHING = ACTION_IDS.index(DO_NOTHING)
# Rows worked on together: small enough for the processor cache.
_ROWS = 8_192


@dataclass(frozen=True, eq=False)
class Truth:
    """The hidden side of a world, for judging models and policies; never an input to them.

    Attributes:
        leads: one row per lead: `lead_id`, `fit`, `intent` (log-hazard scale, sd about 1), `activity` (factor, median
            1), `topic`, `holdout`, `converted_at` (UTC, NaT if never).
        touch_effects: one row per touch of `World.touches`: `touch_id`, `lead_id`, `action_id`, `stage` in which the
            touch found the lead, `log_hazard_shift`, `days`. The conversion hazard is multiplied by
            `exp(log_hazard_shift)` on each of the `days` days after the day of the touch; upward stage moves get half
            the shift, from the night of the touch on.
    """

    leads: pd.DataFrame
    touch_effects: pd.DataFrame
    config: SimulationConfig
    _people: Population
    _plan: TouchPlan
    _rates: Rates
    _stage: npt.NDArray[np.int8]

    def probability(
        self,
        lead_ids: Sequence[str] | pd.Series,
        cutoffs: Moments,
        horizon_days: int = 30,
        action: str | None = None,
    ) -> Floats:
        """Exact P(convert in [cutoff, cutoff + horizon) | hidden stage at the cutoff, not converted before).

        The distribution over (stage, stage at the last touch) is moved forward day by day with the rates of the
        simulation. By default touches are taken as planned, after the cutoff too: the plan was drawn without
        looking at stage or behaviour, so knowing it selects nobody. Days after the end of the history have no
        touches.

        Args:
            lead_ids: shape (n,).
            cutoffs: time-zone-aware instants, shape (n,) or a single one. The chain moves at midnight UTC, where the
                answer is exact; any other instant is read as the midnight before it (an error below a day's hazard).
            horizon_days: length of the label window in whole days, >= 1.
            action: None, or an action id: the answer if that action were taken on the day of the cutoff and nothing
                after it. The effect of an earlier touch runs on and adds up. `"do_nothing"` is the course without a
                new touch; differences from it are true uplifts. Consent is not looked at.

        Returns:
            Probabilities, shape (n,); NaN where the lead does not exist yet or has converted before the cutoff.

        Raises:
            UnknownLead: an id that is not in `World.leads`.
            NaiveTimestamp: a cutoff without time zone.
            InvalidSetting: unknown action, `horizon_days` < 1, a missing cutoff, one after the end, or as many
                cutoffs as fit neither one nor every lead.
        """
        if horizon_days < 1:
            raise InvalidSetting(what=f"{horizon_days} days", where="horizon_days", remedy="Use 1 or more.")
        if action is not None and action not in ACTION_IDS:
            raise InvalidSetting(
                what=f"unknown action {action!r}",
                where="action",
                remedy=f"Use one of {', '.join(ACTION_IDS)}.",
            )
        lead, day = self._rows(lead_ids, cutoffs)
        result = np.full(lead.size, np.nan)
        scored = np.flatnonzero(day >= 0)
        stage = self._stage[day[scored], lead[scored]]
        scored = scored[(stage >= 0) & (stage < CONVERTED)]
        choice = None if action is None else ACTION_IDS.index(action)
        for first in range(0, scored.size, _ROWS):
            rows = scored[first : first + _ROWS]
            result[rows] = self._forward(lead[rows], day[rows], horizon_days, choice)
        return result

    def stage(self, lead_ids: Sequence[str] | pd.Series, cutoffs: Moments) -> npt.NDArray[np.object_]:
        """Hidden stage at the midnight UTC at or before each cutoff, shape (n,); None before creation and after
        conversion. Arguments and errors as in `probability`."""
        lead, day = self._rows(lead_ids, cutoffs)
        code = np.where(day >= 0, self._stage[np.maximum(day, 0), lead], -1)
        names = np.array([*STAGES, None, None], dtype=np.object_)
        return np.asarray(names[code])

    def _rows(self, lead_ids: Sequence[str] | pd.Series, cutoffs: Moments) -> tuple[Ints, Ints]:
        """Row number of each lead, and simulated day of each cutoff (-1 before the lead exists)."""
        wanted = np.asarray(lead_ids, dtype=np.object_)
        lead = pd.Index(self.leads["lead_id"].astype("object")).get_indexer(pd.Index(wanted)).astype(np.int64)
        if (lead < 0).any():
            raise UnknownLead(
                what=f"lead {wanted[lead < 0][0]!r} is not in this world",
                where="lead_ids",
                remedy="Ask only for ids in World.leads.",
            )
        seconds = _seconds_of(cutoffs)
        if seconds.size not in (1, lead.size):
            raise InvalidSetting(
                what=f"{lead.size} leads but {seconds.size} cutoffs",
                where="cutoffs",
                remedy="Give one cutoff per lead, or one for all.",
            )
        seconds = np.broadcast_to(seconds, lead.shape)
        day = (seconds - self.config.start_seconds) // DAY
        if (day > self.config.days).any():
            raise InvalidSetting(
                what=f"a cutoff is on day {int(day.max())} of a history of {self.config.days} days",
                where="cutoffs",
                remedy=f"Give cutoffs up to {self.config.end:%Y-%m-%dT%H:%M:%SZ}.",
            )
        # A lead created later on the very day of the cutoff does not exist at it.
        exists = (self._people.created[lead] <= seconds) & (self._people.created_day[lead] <= day)
        return lead, np.where(exists, day, -1)

    def _forward(self, lead: Ints, day: Ints, horizon: int, choice: int | None) -> Floats:
        """P(convert within the horizon) for rows in a stage; mass has shape (tag, stage, rows).

        The tag is the stage in which the last touch found the lead: it fixes that touch's shift.
        """
        n = lead.size
        every = np.arange(n)
        hazard, up, down, lapse = (
            np.ascontiguousarray(rate[lead].T)
            for rate in (self._rates.hazard, self._rates.up, self._rates.down, self._rates.lapse)
        )
        mass = np.zeros((4, 4, n))
        mass[0, self._stage[day, lead], every] = 1.0
        slot = (self._plan.day[lead] < day[:, None]).sum(axis=1)
        past, past_until = self._last_touch(lead, slot - 1)
        shift, until = np.zeros((4, n)), np.full(n, -1, dtype=np.int64)
        for ahead in range(horizon):
            now = day + ahead
            before = np.where(past_until >= now, past, 0.0)
            active = (before + np.where(until >= now, shift, 0.0))[:, None, :]
            # Nobody converts on the day of arrival, as in `HiddenProcess.run_day`.
            today = np.where(self._people.created_day[lead] == day, 0.0, hazard) if ahead == 0 else hazard
            mass *= 1.0 - conversion_probability(today, active)
            if choice is None:
                rows, action = self._planned(lead, now, slot)
            else:
                rows = every[: n if ahead == 0 and choice != _DO_NOTHING else 0]
                action = np.full(rows.size, choice)
            if rows.size:
                found = mass[:, :, rows].sum(axis=0)
                mass[:, :, rows] = 0.0
                for stage in range(4):
                    mass[stage, stage, rows] = found[stage]
                    shift[stage, rows] = self._shift(lead[rows], action, np.full(rows.size, stage))
                until[rows] = now[rows] + EFFECT_DAYS[action]
                slot[rows] += 1
                active = (before + np.where(until >= now, shift, 0.0))[:, None, :]
            rise, fall, lapsed = move_probabilities(up, down, lapse, active)
            rising, falling, lapsing = mass * rise, mass * fall, mass * lapsed
            mass -= rising + falling + lapsing
            mass[:, 1:] += rising[:, :-1]
            mass[:, :-1] += falling[:, 1:]
            mass[:, 0] += lapsing.sum(axis=1)
        return np.asarray(1.0 - mass.sum(axis=(0, 1)), dtype=np.float64)

    def _last_touch(self, lead: Ints, slot: Ints) -> tuple[Floats, Ints]:
        """Shift and last active day of the touch before the cutoff, in slot `slot` (-1: none)."""
        touched = slot >= 0
        slot = np.maximum(slot, 0)
        action = self._plan.action[lead, slot].astype(np.int64)
        on = np.where(touched, self._plan.day[lead, slot], 0).astype(np.int64)
        found = np.clip(self._stage[on, lead], 0, 3).astype(np.int64)
        return self._shift(lead, action, found), np.where(touched, on + EFFECT_DAYS[action], -1)

    def _planned(self, lead: Ints, now: Ints, slot: Ints) -> tuple[Ints, Ints]:
        """Rows that the plan touches on the day `now`, and the actions; `slot` is each row's next slot."""
        last = self._plan.day.shape[1] - 1
        due = self._plan.day[lead, np.minimum(slot, last)]
        rows = np.flatnonzero((slot <= last) & (due == now))
        return rows, self._plan.action[lead[rows], slot[rows]].astype(np.int64)

    def _shift(self, lead: Ints, action: Ints, stage: Ints) -> Floats:
        return log_hazard_shift(self._people, self.config.touch_strength, lead, action, stage)


def _seconds_of(cutoffs: Moments) -> Ints:
    """Whole seconds since 1970-01-01 UTC (rounded down), shape (n,)."""
    if isinstance(cutoffs, datetime):
        cutoffs = [cutoffs]
    moments = pd.DatetimeIndex(
        cutoffs if isinstance(cutoffs, pd.Series | pd.DatetimeIndex) else list(cutoffs)
    )
    if moments.isna().any():
        raise InvalidSetting(
            what="a cutoff is missing", where="cutoffs", remedy="Drop rows without a cutoff."
        )
    if moments.tz is None:
        raise NaiveTimestamp(
            what="cutoffs have no time zone",
            where="cutoffs",
            remedy="Give aware instants, for example in UTC.",
        )
    naive = moments.tz_convert("UTC").tz_localize(None).as_unit("s")
    return np.asarray(naive.to_numpy().astype(np.int64))
