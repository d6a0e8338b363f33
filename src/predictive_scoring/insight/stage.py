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


def filter_stages(
    counts: Integers, weeks_observed: Integers, parameters: StageParameters | None = None
) -> Floats:
    """P(state) of each lead in its newest week, shape (n, 4), rows sum to 1; columns as in STATES.

    `counts`: (n, weeks, 3) events per whole week and family, oldest week first, the last week ending at the cutoff.
    `weeks_observed`: (n,) whole weeks since the lead exists; earlier columns are not read (they are "not observed",
    which is not the same as silence). 0 gives the initial distribution. A lead older than the columns starts from
    the initial distribution in the first column.

    A row's answer does not depend, to the last bit, on the other rows: states are added one by one instead of by
    matrix products, whose order of summation changes with the size of the batch. About 1 us per lead and week.

    Raises InvalidSetting for shapes that do not fit and InvalidValue for negative counts."""
    parameters = parameters or StageParameters()
    counts, weeks_observed = np.asarray(counts), np.asarray(weeks_observed)
    _check(counts, weeks_observed)
    n, weeks, _ = counts.shape
    rates = np.array(parameters.rates)
    log_rates = np.log(rates)
    totals = rates[:, 0] + rates[:, 1] + rates[:, 2]
    transitions = np.array(parameters.transitions)
    initial = np.array(parameters.initial)
    first = weeks - np.minimum(weeks_observed, weeks)

    alpha: Floats = np.ascontiguousarray(np.broadcast_to(initial, (n, len(STATES))))
    happened, expected = np.zeros(n), np.zeros(n)
    for week in range(weeks):
        observed, starts = week >= first, week == first
        prior = np.where(starts[:, None], initial, _weighted(alpha, transitions))
        activity = np.clip((happened + ACTIVITY_PRIOR) / (expected + ACTIVITY_PRIOR), *ACTIVITY_RANGE)
        n_week = counts[:, week, :].astype(np.float64)
        # log Poisson without the terms that are the same in every state (n log g, log n!).
        evidence = _weighted(n_week, log_rates.T) - activity[:, None] * totals
        with np.errstate(divide="ignore"):  # a transition of 0 is log 0 = -inf: that state is impossible
            joint = np.log(prior) + evidence
        joint -= joint.max(axis=1, keepdims=True)
        weight = np.exp(joint)
        updated = weight / (weight[:, 0] + weight[:, 1] + weight[:, 2] + weight[:, 3])[:, None]
        alpha = np.where(observed[:, None], updated, alpha)
        happened += np.where(observed, n_week[:, 0] + n_week[:, 1] + n_week[:, 2], 0.0)
        expected += np.where(observed, _weighted(alpha, totals[:, None])[:, 0], 0.0)
    return alpha


def most_likely(posterior: Floats) -> tuple[Stage, ...]:
    """The stage with the highest probability of each row of an (n, 4) posterior; the earlier stage on equality."""
    return tuple(STATES[at] for at in np.argmax(posterior, axis=1))


def _weighted(left: Floats, right: Floats) -> Floats:
    """`left @ right` with a fixed order of summation: (n, k) and (k, m) give (n, m)."""
    answer: Floats = left[:, 0, None] * right[0]
    for at in range(1, right.shape[0]):
        answer = answer + left[:, at, None] * right[at]
    return answer


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
