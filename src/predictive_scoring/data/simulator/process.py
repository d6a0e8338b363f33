"""The hidden buying process: a daily Markov chain over stages with a conversion hazard in each.

Within one simulated day (midnight to midnight UTC) the order is: (1) the lead converts with probability
`1 - exp(-hazard)`; (2) if it did not, a touch planned for the day finds it in its stage and fixes the effect; (3) the
stage moves on. `truth.py` runs exactly these functions forward, which is why its probabilities are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from predictive_scoring.data.simulator.config import SimulationConfig
from predictive_scoring.data.simulator.leads import Population
from predictive_scoring.data.simulator.localtime import Floats, Ints
from predictive_scoring.data.simulator.touches import EFFECT_DAYS, TouchPlan, log_hazard_shift

STAGES: tuple[str, ...] = ("dormant", "awareness", "consideration", "decision")
CONVERTED, ABSENT = 4, -1
"""Codes beside the stages 0..3 in a stage history: after the day of conversion, and before the lead exists."""

# Daily rates at fit = intent = 0 without a touch.
_HAZARD = np.array([1.0e-4, 1.1e-3, 2.7e-3, 9.5e-3])
_UP = np.array([0.0080, 0.0160, 0.0230, 0.0])
_DOWN = np.array([0.0, 0.0, 0.0150, 0.0300])
_LAPSE = np.array([0.0, 0.0260, 0.0160, 0.0120])
_HAZARD_FIT, _HAZARD_INTENT = 0.50, 0.40
_UP_FIT, _UP_INTENT, _LAPSE_INTENT = 0.35, 0.45, -0.20
# A touch moves the upward transitions by this share of its log-hazard shift.
_TRANSITION_SHARE = 0.5
# Stage on the first day: colder sources start further from buying.
_START_COLD = np.array([0.30, 0.58, 0.10, 0.02])
_START_WARM = np.array([0.12, 0.55, 0.26, 0.07])


@dataclass(frozen=True, eq=False)
class Rates:
    """Daily rates without touches, each of shape (leads, 4 stages)."""

    hazard: Floats
    up: Floats
    down: Floats
    lapse: Floats


def rates(config: SimulationConfig, people: Population) -> Rates:
    """Rates of every lead from its fit and intent (proportional hazards with log-normal frailty)."""
    fit, intent = people.fit[:, None], people.intent[:, None]
    return Rates(
        hazard=config.hazard_scale * _HAZARD * np.exp(_HAZARD_FIT * fit + _HAZARD_INTENT * intent),
        up=_UP * np.exp(_UP_FIT * fit + _UP_INTENT * intent),
        down=np.broadcast_to(_DOWN, (people.size, 4)),
        lapse=_LAPSE * np.exp(_LAPSE_INTENT * intent),
    )


def conversion_probability(hazard: Floats, shift: Floats) -> Floats:
    """P(convert on a day) = 1 - exp(-hazard exp(shift))."""
    return np.asarray(-np.expm1(-hazard * np.exp(shift)), dtype=np.float64)


def move_probabilities(
    up: Floats, down: Floats, lapse: Floats, shift: Floats
) -> tuple[Floats, Floats, Floats]:
    """P(one stage up), P(one stage down), P(to dormant) over a night: competing exponential risks."""
    up = up * np.exp(_TRANSITION_SHARE * shift)
    total = up + down + lapse
    # (1 - e^-x) / x tends to 1; every stage has a way out, so total > 0.
    share = -np.expm1(-total) / total
    return up * share, down * share, lapse * share


class HiddenProcess:
    """Runs all leads forward one day at a time.

    Attributes:
        stage: `int8`, shape (days + 1, leads): stage at the start of each day, or `CONVERTED` / `ABSENT`.
        conversion_day: shape (leads,), -1 while not converted.
        touch_shift: shape (leads, slots): log-hazard shift fixed by the touch in that slot, NaN if none happened.
    """

    def __init__(
        self, config: SimulationConfig, people: Population, plan: TouchPlan, rng: np.random.Generator
    ) -> None:
        n = people.size
        self._config, self._people, self._plan, self._rng = config, people, plan, rng
        self._rates = rates(config, people)
        start = np.where(people.warm_start[:, None], _START_WARM, _START_COLD)
        passed = rng.random(n)[:, None] > np.cumsum(start, axis=1)
        self._first_stage = passed.sum(axis=1).clip(0, 3).astype(np.int8)
        self._arrivals = np.searchsorted(people.created_day, np.arange(config.days + 1), side="left")
        order = np.argsort(plan.day, axis=None, kind="stable")
        self._slots = order
        self._slot_edges = np.searchsorted(plan.day.ravel()[order], np.arange(config.days + 1), side="left")
        self._active = np.zeros(n)
        self._until = np.full(n, -1, dtype=np.int64)
        self.stage: npt.NDArray[np.int8] = np.full((config.days + 1, n), ABSENT, dtype=np.int8)
        self.conversion_day: Ints = np.full(n, -1, dtype=np.int64)
        self.touch_shift: Floats = np.full(plan.day.shape, np.nan)

    def run_day(self, day: int) -> None:
        """Advance from the start of `day` to the start of the next; days must be run in order from 0."""
        first, last = self._arrivals[day], self._arrivals[day + 1]
        self.stage[day, first:last] = self._first_stage[first:last]
        stage = self.stage[day, :last]
        draws = self._rng.random((2, last))
        alive = np.flatnonzero(stage < CONVERTED)
        now = stage[alive].astype(np.int64)
        shift = np.where(self._until[alive] >= day, self._active[alive], 0.0)
        chance = conversion_probability(self._rates.hazard[alive, now], shift)
        # Nobody converts on the day of arrival: the lead must exist before its conversion.
        converts = (draws[0, alive] < chance) & (alive < first)
        self.conversion_day[alive[converts]] = day
        self._touch(day)
        shift = np.where(self._until[alive] >= day, self._active[alive], 0.0)
        up, down, lapse = move_probabilities(
            self._rates.up[alive, now], self._rates.down[alive, now], self._rates.lapse[alive, now], shift
        )
        u = draws[1, alive]
        moved = np.where(
            u < up, now + 1, np.where(u < up + down, now - 1, np.where(u < up + down + lapse, 0, now))
        )
        following = self.stage[day + 1]
        following[:last] = CONVERTED
        following[alive] = np.where(converts, CONVERTED, moved)

    def _touch(self, day: int) -> None:
        flat = self._slots[self._slot_edges[day] : self._slot_edges[day + 1]]
        lead = flat // self._plan.day.shape[1]
        met = (self.stage[day, lead] < CONVERTED) & (self.conversion_day[lead] < 0)
        flat, lead = flat[met], lead[met]
        action = self._plan.action.ravel()[flat].astype(np.int64)
        stage = self.stage[day, lead].astype(np.int64)
        shift = log_hazard_shift(self._people, self._config.touch_strength, lead, action, stage)
        self.touch_shift.ravel()[flat] = shift
        self._active[lead] = shift
        self._until[lead] = day + EFFECT_DAYS[action]
