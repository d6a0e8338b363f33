"""Laws of the capacity planner and of hysteresis: what is planned happens, and leads do not flicker over the line."""

from __future__ import annotations

import secrets

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.special import logit as log_odds

from predictive_scoring.model.capacity import capacity_line, plan_capacity
from predictive_scoring.model.grading import Grading, learn_grading

DAYS = 90
SEEDS = [0, *(pytest.param(number, marks=pytest.mark.trial) for number in range(1, 6))]
"""The first is fixed; the trials draw fresh ones, which they print."""


def generator(number: int) -> np.random.Generator:
    seed = secrets.randbits(32) if number else 11
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    return np.random.default_rng(seed)


def planned_and_true(draw: np.random.Generator, doubt: float, weeks: int) -> tuple[float, float]:
    """One world: shares of weeks inside the planned range, and whether the true mean lies in the range of the mean.

    The model is off by a common error in log-odds, of the size that its ranges admit."""
    n, capacity = int(draw.integers(300, 1500)), int(draw.integers(10, 80))
    z = draw.normal(draw.uniform(-4.0, -1.5), draw.uniform(0.6, 1.4), n)
    truth = expit(z + doubt * draw.normal())
    half = 1.645 * doubt
    made = plan_capacity(
        expit(z),
        (expit(z - half), expit(z + half)),
        learn_grading(z, z, z, ready_share=0.1),
        weekly_capacity=capacity,
        days=DAYS,
        factors=(),
    )
    here = made.here
    ready = truth[expit(z) >= here.line]
    leads = draw.poisson(here.leads, weeks) if made.enough else np.full(weeks, round(here.leads))
    found = np.array([draw.binomial(1, draw.choice(ready, number)).sum() for number in leads])
    inside = float(((found >= here.week_low) & (found <= here.week_high)).mean())
    return inside, float(here.low <= here.leads * ready.mean() <= here.high)


@pytest.mark.parametrize("number", SEEDS)
@pytest.mark.parametrize("doubt", [0.0, 0.1, 0.4])
def test_nine_of_ten_weeks_bring_what_was_planned(number: int, doubt: float) -> None:
    draw = generator(number)
    inside, mean_inside = np.mean([planned_and_true(draw, doubt, 30) for _ in range(150)], axis=0)
    # Counts are whole numbers: the range that holds at least 90 % of them may hold up to a few percent more.
    assert 0.865 <= inside <= 0.985
    if doubt:
        assert 0.83 <= mean_inside <= 0.97


@pytest.mark.parametrize("number", SEEDS)
def test_as_many_leads_are_ready_as_can_be_worked_within_one(number: int) -> None:
    draw = generator(number)
    for _ in range(100):
        n, capacity = int(draw.integers(200, 3000)), int(draw.integers(1, 60))
        z = draw.normal(-3.0, 1.0, n)
        line = capacity_line(expit(z), capacity, DAYS)
        grading = learn_grading(z, z, z, ready_probability=line)
        ready = sum(grading.readiness(float(p)) == "ready" for p in expit(z))
        assert abs(ready - min(n, capacity * DAYS / 7)) <= 1


def changes_of_side(grading: Grading, probability: np.ndarray, *, remembered: bool) -> int:
    """How often leads change side when scored day by day, (days, leads)."""
    sides = [grading.readiness(float(p)) for p in probability[0]]
    changes = 0
    for day in probability[1:]:
        now = [
            grading.readiness(float(p), side if remembered else None)
            for p, side in zip(day, sides, strict=True)
        ]
        changes += sum(new != old for new, old in zip(now, sides, strict=True))
        sides = now
    return changes


@pytest.mark.parametrize("number", SEEDS)
@pytest.mark.parametrize("noise", [0.02, 0.05, 0.08])
def test_hysteresis_takes_away_three_of_four_changes_of_side(number: int, noise: float) -> None:
    draw = generator(number)
    z = draw.normal(-2.5, 1.0, 900)
    line = capacity_line(expit(z), 12, DAYS)
    grading = learn_grading(z, z, z, ready_probability=line)
    probability = expit(z + draw.normal(0.0, noise, (30, len(z))))
    without = changes_of_side(grading, probability, remembered=False)
    assert without > 20
    assert changes_of_side(grading, probability, remembered=True) <= without / 4


@pytest.mark.parametrize("number", SEEDS)
def test_hysteresis_leaves_the_number_of_ready_leads_as_it_was(number: int) -> None:
    """Leads come and go in a stationary inflow; whoever is remembered keeps a side, and the number stays."""
    draw = generator(number)
    grading = learn_grading(*(draw.normal(-2.5, 1.0, (3, 20_000))), ready_share=0.1)
    z = draw.normal(-2.5, 1.0, 3000)
    sides = [grading.readiness(float(p)) for p in expit(z)]
    first = sides.count("ready")
    for _ in range(40):
        new = draw.random(len(z)) < 0.05
        z[new] = draw.normal(-2.5, 1.0, int(new.sum()))
        seen = expit(z + draw.normal(0.0, 0.05, len(z)))
        sides = [
            grading.readiness(float(p), None if fresh else side)
            for p, fresh, side in zip(seen, new, sides, strict=True)
        ]
    assert abs(sides.count("ready") - first) <= 0.15 * first


@pytest.mark.trial
def test_a_model_that_was_learned_plans_weeks_that_happen() -> None:
    """From examples to the plan with the product's own fit, in worlds whose truth is known."""
    from predictive_scoring.model.columns import learn_columns
    from predictive_scoring.model.fitting import fit_calibrated

    inside = []
    for _ in range(12):
        draw = generator(1)
        weights = draw.normal(0.0, 0.6, 4)

        def world(n: int, draw: np.random.Generator = draw, weights: np.ndarray = weights) -> tuple:
            frame = pd.DataFrame(draw.normal(size=(n, 4)), columns=list("abcd"))
            return frame, expit(-2.6 + frame.to_numpy() @ weights)

        (old, old_p), (recent, recent_p), (inflow, truth) = world(4000), world(2000), world(900)
        columns = learn_columns(old, dict.fromkeys("abcd", "number"))
        model, _ = fit_calibrated(
            old,
            draw.binomial(1, old_p),
            recent,
            draw.binomial(1, recent_p),
            columns,
            seed=1,
        )
        p = model.probability(inflow)
        z = log_odds(p)
        here = plan_capacity(
            p,
            model.interval(inflow),
            learn_grading(z, z, z, ready_share=0.1),
            weekly_capacity=15,
            days=DAYS,
        ).here
        ready = truth[p >= here.line]
        weeks = draw.binomial(1, draw.choice(ready, (200, round(here.leads)))).sum(axis=1)
        inside.append(((weeks >= here.week_low) & (weeks <= here.week_high)).mean())
    print(f"weeks inside the planned range: {np.mean(inside):.3f}")  # noqa: T201 - the figure of the trial
    assert np.mean(inside) >= 0.86
