"""Where a lead is on the buyer's journey: a hidden Markov model with fixed parameters, filtered week by week.

States: dormant, awareness, consideration, decision. Observed per week: how many events of each of three families
(the project file says for each event type which stage it speaks for). With alpha_t(s) = P(state s in week t, given
weeks 1..t), the forward recursion is (Rabiner 1989, "A tutorial on hidden Markov models", eq. 19-20)

    alpha_t(s)  ~  [alpha_(t-1) T](s)  prod_j Poisson(n_tj; lambda_sj g_t)

    g_t = clip((N + 3) / (E + 3), 0.3, 3),    N = sum of all counts in weeks before t,
                                              E = sum over those weeks u of sum_s alpha_u(s) sum_j lambda_sj

g_t is the lead's own activity level: some people click ten times where others click once, and that is not a stage.
E is what a lead of average activity would have done in the filtered states. Only weeks *before* t enter, so that a
week is not both the evidence and its own yardstick; on simulated worlds this was as good as including week t
(log-loss .54-.64 for both) and far better than the stationary expectation (.72-.87). The 3 is a prior of three
events; the clip keeps one lead's history from explaining everything. One consequence: after months of silence g_t
has fallen, and P(dormant) settles half a point below its peak (.978 -> .973).

The parameters are never fitted: fitting by EM was worse than these (METHODS.md, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from predictive_scoring.errors import InvalidSetting, InvalidValue
from predictive_scoring.schema import Document, Stage

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]

STATES: tuple[Stage, ...] = get_args(Stage)
"""Order of rows and columns everywhere below: dormant, awareness, consideration, decision."""
FAMILIES = ("awareness", "consideration", "decision")
"""Event families, by the stage that an event type speaks for; order of the last axis of `counts`."""

ACTIVITY_PRIOR = 3.0
ACTIVITY_RANGE = (0.3, 3.0)

Rate = Annotated[float, Field(gt=0, le=1000)]
FamilyRates = tuple[Rate, Rate, Rate]
Share = Annotated[float, Field(ge=0, le=1)]
Distribution = tuple[Share, Share, Share, Share]


class StageParameters(Document):
    """Rates, transitions and start of the journey model; one project file may replace them.

    `rates[state][family]`: expected events per week of a lead with average activity. `transitions[from][to]`: chance
    of the state one week later, rows sum to 1. `initial`: chances in the first observed week, sum 1."""

    rates: tuple[FamilyRates, FamilyRates, FamilyRates, FamilyRates] = (
        (0.10, 0.02, 0.005),
        (1.20, 0.15, 0.03),
        (1.60, 0.90, 0.15),
        (1.30, 0.90, 1.10),
    )
    transitions: tuple[Distribution, Distribution, Distribution, Distribution] = (
        (0.930, 0.060, 0.008, 0.002),
        (0.100, 0.820, 0.070, 0.010),
        (0.060, 0.100, 0.770, 0.070),
        (0.050, 0.040, 0.110, 0.800),
    )
    initial: Distribution = (0.10, 0.65, 0.20, 0.05)

    @model_validator(mode="after")
    def _is_a_journey(self) -> StageParameters:
        rows = [("initial", self.initial)]
        rows += [
            (f"transitions from {state}", row) for state, row in zip(STATES, self.transitions, strict=True)
        ]
        for name, row in rows:
            if abs(sum(row) - 1) > 1e-6:
                raise ValueError(f"{name} must sum to 1, not {sum(row):g}")
        for j, family in enumerate(FAMILIES):
            for state, rates in zip(STATES[1:], self.rates[1:], strict=True):
                # Otherwise a silent week would be evidence of activity.
                if rates[j] < self.rates[0][j]:
                    raise ValueError(f"the {family} rate of dormant leads is above that of {state} leads")
        return self

    @cached_property
    def log_rates(self) -> tuple[tuple[float, ...], ...]:
        """Logarithm of each rate."""
        return tuple(tuple(math.log(rate) for rate in rates) for rates in self.rates)

    @cached_property
    def totals(self) -> tuple[float, ...]:
        """Events per week in each state, whatever the family."""
        return tuple(sum(rates) for rates in self.rates)


def filter_stages(
    counts: Integers, weeks_observed: Integers, parameters: StageParameters | None = None
) -> Floats:
    """P(state) of each lead in its newest week, shape (n, 4), rows sum to 1; columns as in STATES.

    `counts`: (n, weeks, 3) events per whole week and family, oldest week first, the last week ending at the cutoff.
    `weeks_observed`: (n,) whole weeks since the lead exists; earlier columns are not read (they are "not observed",
    which is not the same as silence). 0 gives the initial distribution. A lead older than the columns starts from
    the initial distribution in the first column.

    A row's answer does not depend, to the last bit, on the other rows: each is worked out on its own, in plain floats,
    because a lead alone would cost thirty times as much in arrays. About 2 us per lead and week.

    Raises InvalidSetting for shapes that do not fit and InvalidValue for negative counts."""
    parameters = parameters or StageParameters()
    counts, weeks_observed = np.asarray(counts), np.asarray(weeks_observed)
    _check(counts, weeks_observed)
    rows = zip(counts.tolist(), weeks_observed.tolist(), strict=True)
    filtered = [_filtered(weeks[max(0, len(weeks) - seen) :], parameters) for weeks, seen in rows]
    return np.array(filtered, dtype=np.float64).reshape(len(counts), len(STATES))


def stage_of(weeks: Sequence[Sequence[int]], weeks_observed: int, parameters: StageParameters) -> Stage:
    """The stage of one lead: `most_likely` of its row of `filter_stages`, for counts (weeks, 3) that nobody checks."""
    alpha = _filtered(weeks[max(0, len(weeks) - weeks_observed) :], parameters)
    return STATES[alpha.index(max(alpha))]


def _filtered(
    weeks: Sequence[Sequence[int]], parameters: StageParameters
) -> tuple[float, float, float, float]:
    """P(state) after the weeks, all of them observed. States and families are written out: loops over them take four
    times as long."""
    initial = parameters.initial
    from_0, from_1, from_2, from_3 = parameters.transitions
    logs_0, logs_1, logs_2, logs_3 = parameters.log_rates
    total_0, total_1, total_2, total_3 = parameters.totals
    lowest, highest = ACTIVITY_RANGE
    exp = math.exp
    a_0, a_1, a_2, a_3 = initial
    happened = expected = 0.0
    first = True
    for x, y, z in weeks:
        if first:
            p_0, p_1, p_2, p_3 = initial
            first = False
        else:
            p_0 = a_0 * from_0[0] + a_1 * from_1[0] + a_2 * from_2[0] + a_3 * from_3[0]
            p_1 = a_0 * from_0[1] + a_1 * from_1[1] + a_2 * from_2[1] + a_3 * from_3[1]
            p_2 = a_0 * from_0[2] + a_1 * from_1[2] + a_2 * from_2[2] + a_3 * from_3[2]
            p_3 = a_0 * from_0[3] + a_1 * from_1[3] + a_2 * from_2[3] + a_3 * from_3[3]
        g = (happened + ACTIVITY_PRIOR) / (expected + ACTIVITY_PRIOR)
        g = lowest if g < lowest else min(g, highest)
        # log Poisson without the terms that are the same in every state (n log g, log n!).
        e_0, e_1, e_2, e_3 = -g * total_0, -g * total_1, -g * total_2, -g * total_3
        if x or y or z:
            e_0 += x * logs_0[0] + y * logs_0[1] + z * logs_0[2]
            e_1 += x * logs_1[0] + y * logs_1[1] + z * logs_1[2]
            e_2 += x * logs_2[0] + y * logs_2[1] + z * logs_2[2]
            e_3 += x * logs_3[0] + y * logs_3[1] + z * logs_3[2]
            happened += x + y + z
        if not (p_0 and p_1 and p_2 and p_3):  # a transition of 0: that state is impossible
            e_0, e_1 = e_0 if p_0 else -math.inf, e_1 if p_1 else -math.inf
            e_2, e_3 = e_2 if p_2 else -math.inf, e_3 if p_3 else -math.inf
        # Measured against the likeliest state: with absurd counts all the others vanish.
        top = max(e_0, e_1, e_2, e_3)
        a_0, a_1 = p_0 * exp(e_0 - top), p_1 * exp(e_1 - top)
        a_2, a_3 = p_2 * exp(e_2 - top), p_3 * exp(e_3 - top)
        whole = a_0 + a_1 + a_2 + a_3
        a_0, a_1, a_2, a_3 = a_0 / whole, a_1 / whole, a_2 / whole, a_3 / whole
        expected += a_0 * total_0 + a_1 * total_1 + a_2 * total_2 + a_3 * total_3
    return a_0, a_1, a_2, a_3


def most_likely(posterior: Floats) -> tuple[Stage, ...]:
    """The stage with the highest probability of each row of an (n, 4) posterior; the earlier stage on equality."""
    return tuple(STATES[at] for at in np.argmax(posterior, axis=1))


def _check(counts: Integers, weeks_observed: Integers) -> None:
    if counts.ndim != 3 or counts.shape[2] != len(FAMILIES) or weeks_observed.shape != counts.shape[:1]:
        raise InvalidSetting(
            what=f"counts of shape {counts.shape} with weeks_observed of shape {weeks_observed.shape}",
            where="filter_stages",
            remedy="Pass counts (n, weeks, 3) and weeks_observed (n,).",
        )
    if (counts < 0).any() or (weeks_observed < 0).any():
        row = int(np.argmax((counts < 0).any(axis=(1, 2)) | (weeks_observed < 0)))
        raise InvalidValue(
            what="a negative count or number of weeks",
            where=f"filter_stages, row {row}",
            remedy="Counts of events and weeks are 0 or more.",
        )
