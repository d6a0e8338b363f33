"""What sales can work: the line through the inflow, what lies above it, and what moving it would cost.

Of n open leads that arrived in D days with probabilities p, a team that works K leads a week has S = K D / 7 places.
The line is the S-th largest p; the R leads at or above it are `ready`, W = 7 R / D of them a week. A week's conversions
have the mean m = W mean(p | ready), and vary for two reasons:

- the model may be wrong about the level: each p has a 90 % range, and as the ranges of leads are wrong together, they
  are moved together, z_i(u) = z_i + u h_i with u ~ N(0, 1) and h_i the distance in log-odds to the range's end on
  the side of u, divided by 1.645;
- chance: given u, W leads drawn from the ready ones convert independently. Drawn at random their number is
  Binomial(W, mean p(u)): the Poisson-binomial of the drawn leads, averaged over the draw. Where fewer than K leads a
  week come at all, their number is itself by chance, and it is Poisson(W mean p(u)).

Both are summed over u exactly (equally likely values of u), so that the same leads always give the same plan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logit as log_odds
from scipy.stats import binom, norm, poisson

from predictive_scoring.model.grading import Grading
from predictive_scoring.model.logistic import expit

Floats = npt.NDArray[np.float64]

FACTORS = (0.5, 0.75, 1.25, 1.5, 2.0)
"""Other capacities that a plan looks at, as multiples of the present one."""
LEVEL = 0.90
NOBODY = 0.5
"""The line where there is no lead to draw it through."""
_STEPS = 101
"""Equally likely values of the common error of the model."""


@dataclass(frozen=True)
class Value:
    """What a converted lead is worth: P(won | converted), a won deal's value and the cost of working a lead."""

    win_rate: float
    value_per_win: float
    cost_per_lead: float

    def profit(self, leads: float, conversions: float) -> float:
        """Money from working `leads` of which `conversions` convert."""
        return conversions * self.win_rate * self.value_per_win - leads * self.cost_per_lead


@dataclass(frozen=True)
class Position:
    """One place of the line. Leads and conversions are per week.

    `line` is a probability and `score` the same as a score; `low` and `high` are the 90 % range of the mean number of
    conversions (the model may be wrong), `week_low` and `week_high` that of a single week (chance besides)."""

    capacity: float
    line: float
    score: int
    leads: float
    conversions: float
    low: float
    high: float
    week_low: int
    week_high: int
    profit: float | None = None


@dataclass(frozen=True)
class Move:
    """The line elsewhere, compared with where it is. Differences are per week; `per_extra_lead` is conversions per
    lead that is worked more (or less), absent where their number stays the same."""

    factor: float
    to: Position
    extra_leads: float
    extra_conversions: float
    per_extra_lead: float | None
    extra_profit: float | None = None


@dataclass(frozen=True)
class CapacityPlan:
    """Where the line lies for a capacity, and what other capacities would bring."""

    open_leads: int
    days: int
    here: Position
    moves: tuple[Move, ...]

    @property
    def enough(self) -> bool:
        """Whether sales can work every lead that comes."""
        return self.here.capacity * self.days / 7.0 >= self.open_leads

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document."""
        return asdict(self) | {"all_can_be_worked": self.enough}

    def sentence(self) -> str:
        """The plan in one sentence."""
        here = self.here
        if self.open_leads == 0:
            return f"No open lead arrived in the last {self.days} days: there is nothing to work."
        worth = (
            f"{here.leads:,.0f} a week, of which {here.conversions:,.1f} ({here.low:,.1f} to {here.high:,.1f}) "
            "should convert"
        )
        if self.enough:
            return f"Work every lead: {worth}. There is time for {here.capacity:,.0f} a week."
        return f"Work every lead with a score of {here.score} or more: {worth}."


def slots(weekly_capacity: float, days: int) -> int:
    """Leads that can be worked in `days` days."""
    return round(weekly_capacity * days / 7.0)


def capacity_line(probability: npt.ArrayLike, weekly_capacity: float, days: int) -> float:
    """Return the probability from which on a lead is worked: as many of the `days` days' open leads (n,) lie at or
    above it as can be worked in that time, more only where leads share the very same probability.

    Where all can be worked it is the smallest probability; without any lead it is 0.5. Raises ValueError unless at
    least one lead can be worked.
    """
    places = slots(weekly_capacity, days)
    if places < 1:
        raise ValueError(f"a capacity of {weekly_capacity} a week is less than one lead in {days} days")
    p = np.sort(np.asarray(probability, dtype=np.float64))[::-1]
    return float(p[min(places, len(p)) - 1]) if len(p) else NOBODY


def plan_capacity(
    probability: npt.ArrayLike,
    interval: tuple[npt.ArrayLike, npt.ArrayLike],
    grading: Grading,
    *,
    weekly_capacity: float,
    days: int,
    value: Value | None = None,
    factors: Sequence[float] = FACTORS,
) -> CapacityPlan:
    """Return the plan for the open leads of the last `days` days: their probabilities (n,) and the 90 % range of
    each (low, high). Raises ValueError as :func:`capacity_line`.
    """
    p = np.asarray(probability, dtype=np.float64)
    order = np.argsort(-p, kind="stable")
    low, high = (np.asarray(side, dtype=np.float64)[order] for side in interval)
    leads = _Leads(p[order], low, high, days, grading, value)
    here = leads.position(weekly_capacity)
    moves = tuple(
        _move(factor, here, leads.position(max(weekly_capacity * factor, 7.0 / days)), value)
        for factor in factors
    )
    return CapacityPlan(len(p), days, here, moves)


@dataclass(frozen=True)
class _Leads:
    """Open leads with the ends of their ranges, most probable first."""

    p: Floats
    low: Floats
    high: Floats
    days: int
    grading: Grading
    value: Value | None

    def position(self, capacity: float) -> Position:
        line = capacity_line(self.p, capacity, self.days)
        ready = int(np.searchsorted(-self.p, -line, side="right"))
        leads = 7.0 * ready / self.days
        all_worked = slots(capacity, self.days) >= len(self.p)
        rates = _mean_rates(self.p[:ready], self.low[:ready], self.high[:ready])
        conversions = leads * float(self.p[:ready].mean()) if ready else 0.0
        tail = (1.0 - LEVEL) / 2.0
        low, high = np.quantile(leads * rates, [tail, 1.0 - tail])
        week_low, week_high = _week(leads, rates, tail, certain=not all_worked)
        return Position(
            capacity=capacity,
            line=line,
            score=self.grading.score(float(log_odds(line))),
            leads=leads,
            conversions=conversions,
            low=min(float(low), conversions),
            high=max(float(high), conversions),
            week_low=week_low,
            week_high=week_high,
            profit=self.value.profit(leads, conversions) if self.value else None,
        )


def _mean_rates(p: Floats, low: Floats, high: Floats) -> Floats:
    """Mean conversion rate (101,) of leads under equally likely common errors of the model."""
    if len(p) == 0:
        return np.zeros(_STEPS)
    unit = norm.ppf(0.5 + LEVEL / 2.0)
    z = log_odds(p)
    down, up = (z - log_odds(low)) / unit, (log_odds(high) - z) / unit
    common = norm.ppf((np.arange(_STEPS) + 0.5) / _STEPS)
    return np.array([expit(z + u * (up if u > 0 else down)).mean() for u in common])


def _week(leads: float, rates: Floats, tail: float, *, certain: bool) -> tuple[int, int]:
    """Smallest counts k with P(conversions <= k) of at least `tail` and at least 1 - `tail`; `certain` is whether
    the number of leads of a week is."""
    drawn = max(1, round(leads)) if leads else 0
    counts = np.arange((drawn if certain else math.ceil(leads + 10.0 * math.sqrt(leads) + 10.0)) + 1)
    if certain:
        below = binom.cdf(counts[:, None], drawn, rates[None, :]).mean(axis=1)
    else:
        below = poisson.cdf(counts[:, None], leads * rates[None, :]).mean(axis=1)
    low, high = (int(np.searchsorted(below, share - 1e-12)) for share in (tail, 1.0 - tail))
    return low, min(high, int(counts[-1]))


def _move(factor: float, here: Position, to: Position, value: Value | None) -> Move:
    leads, conversions = to.leads - here.leads, to.conversions - here.conversions
    return Move(
        factor=factor,
        to=to,
        extra_leads=leads,
        extra_conversions=conversions,
        per_extra_lead=conversions / leads if leads else None,
        extra_profit=value.profit(leads, conversions) if value else None,
    )
