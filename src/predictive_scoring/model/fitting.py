"""The two recipes that fit a scoring function.

Three rungs by the number of conversions (METHODS section 1): :func:`fit_points_card` below ten,
:func:`fit_calibrated` above, which is the ridge alone until there are enough for trees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit

from predictive_scoring.errors import TrainingImpossible
from predictive_scoring.model.bootstrap import lead_numbers, ridge_draws
from predictive_scoring.model.calibrated import CalibratedModel, Evidence
from predictive_scoring.model.calibration import PlattCalibration, fit_platt
from predictive_scoring.model.columns import Column, encode
from predictive_scoring.model.design import unfitted_transforms, width
from predictive_scoring.model.linear import LinearPart
from predictive_scoring.model.platt import MIN_SLOPE
from predictive_scoring.model.points import PointsCard
from predictive_scoring.model.propensity import PropensityModel
from predictive_scoring.model.selection import Selection, select_propensity
from predictive_scoring.model.tuning import Tuning

Floats = npt.NDArray[np.float64]

CARD_SLOPE_SD = {True: 0.5, False: 1.0}
"""How far the truth may lie from a declared and from a default card: the slope of its range is drawn from
Normal(1, sd^2). A default card is modest on purpose, the truth may well be twice as steep."""
CARD_ROWS = 4000
"""Rows on which a replicate of the points card balances its level; more would not change it."""


def fit_calibrated(
    train_X: pd.DataFrame,
    train_y: npt.ArrayLike,
    recent_X: pd.DataFrame,
    recent_y: npt.ArrayLike,
    columns: Sequence[Column],
    *,
    seed: int,
    recent_leads: npt.ArrayLike | None = None,
    recent_times: npt.ArrayLike | None = None,
    train_weight: npt.ArrayLike | None = None,
    recent_weight: npt.ArrayLike | None = None,
    train_leads: npt.ArrayLike | None = None,
    card: PointsCard | None = None,
    replicates: int = 100,
    recent_ends: npt.ArrayLike | None = None,
    ordered: bool = True,
    tuning: Tuning | None = None,
) -> tuple[CalibratedModel, Selection]:
    """Run the whole recipe: select and refit the propensity model, calibrate it on its out-of-fold recent margins.

    Arguments and errors as :func:`select_propensity`; ``train_leads`` and ``recent_leads`` (n_train,) and (n_recent,)
    are lead ids for the bootstrap, which draws leads with all their cutoffs. Its ``replicates`` join both sources of
    doubt: the fit (:func:`ridge_draws`) and the calibration. The selection is returned too: its ``recent_margin`` is
    what an honest report of the recent period needs.
    """
    selection = select_propensity(
        train_X,
        train_y,
        recent_X,
        recent_y,
        columns,
        seed=seed,
        recent_times=recent_times,
        train_weight=train_weight,
        recent_weight=recent_weight,
        card=card,
        recent_ends=recent_ends,
        recent_leads=recent_leads,
        ordered=ordered,
        tuning=tuning,
    )
    calibration = fit_platt(
        selection.recent_margin,
        recent_y,
        groups=recent_leads,
        seed=seed,
        replicates=replicates,
        weight=recent_weight,
    )
    n, first = len(selection.y), len(selection.y) - len(selection.recent_margin)
    leads = _joined_leads(train_leads, recent_leads, first, n)
    model = selection.model
    if replicates:
        draws = ridge_draws(
            model.linear,
            selection.encoded,
            selection.y,
            selection.weight,
            leads,
            np.arange(first, n),
            seed=seed,
            replicates=replicates,
        )
        centre = float(model.encoded_margin(selection.encoded[first:]).mean())
        calibration = replace(calibration, replicates=_composed(calibration.replicates, draws, centre))
    evidence = Evidence(
        "blend" if model.weight > 0.0 else "ridge", len(np.unique(leads[selection.y == 1.0])), n
    )
    return CalibratedModel(model, calibration, evidence), selection


def _joined_leads(
    train: npt.ArrayLike | None, recent: npt.ArrayLike | None, first: int, n: int
) -> npt.NDArray[np.int64]:
    """Lead numbers (n,) of all rows; a lead keeps its number across the two periods."""
    if train is not None and recent is not None:
        # As text: the two may come with different types.
        return lead_numbers(
            np.concatenate([np.asarray(train).astype(str), np.asarray(recent).astype(str)]), n
        )
    before = lead_numbers(train, first)
    after = lead_numbers(recent, n - first)
    return np.concatenate([before, after + (int(before.max()) + 1 if first else 0)])


def _composed(
    pairs: Sequence[tuple[float, float]], draws: Floats, centre: float
) -> tuple[tuple[float, float], ...]:
    """Calibration pairs after draws of the fit (B, 2) about margins of mean ``centre``: again (slope, intercept)."""
    composed = []
    for (a, b), (slope, level) in zip(pairs, draws, strict=True):
        tilt = max(float(slope), MIN_SLOPE)
        composed.append((a * tilt, a * (centre + float(level) - tilt * centre) + b))
    return tuple(composed)


def fit_points_card(
    frame: pd.DataFrame,
    y: npt.ArrayLike,
    columns: Sequence[Column],
    card: PointsCard,
    *,
    seed: int,
    expected_rate: float | None = None,
    weight: npt.ArrayLike | None = None,
    leads: npt.ArrayLike | None = None,
    population: pd.DataFrame | None = None,
    replicates: int = 100,
) -> CalibratedModel:
    """Return the card as a model: its slope is fixed at 1, its level is fitted on outcomes (n,) of 0/1.

    The level makes the mean probability the (weighted) conversion rate. ``expected_rate``, the conversion rate that
    people expect, counts like one conversion seen at that rate among the leads of ``population`` (default: ``frame``);
    with it ``y`` may hold no conversion, and with a population no row at all. The range draws the rate from
    Beta(conversions + prior, rest + prior), with each lead (``leads`` (n,) ids) counted once however many cutoffs it
    has, and the slope from Normal(1, CARD_SLOPE_SD^2).

    Raises TrainingImpossible without any lead, for an outcome other than 0 and 1, and when all outcomes are equal and
    no rate is expected.
    """
    outcome = np.asarray(y, dtype=np.float64)
    n = len(outcome)
    if not np.isin(outcome, (0.0, 1.0)).all():
        raise TrainingImpossible(
            what="an outcome is neither 0 nor 1",
            where="training rows",
            remedy="drop censored rows before training",
        )
    if expected_rate is None and len(np.unique(outcome)) < 2:
        raise TrainingImpossible(
            what=f"all {n} rows have the same outcome",
            where="training rows",
            remedy="say which conversion rate you expect: conversion.expected_rate",
        )
    if n == 0 and (population is None or len(population) == 0):
        raise TrainingImpossible(
            what="there is no lead to look at",
            where="training rows",
            remedy="the level of a points card needs the features of some leads",
        )
    w = np.ones(n) if weight is None else np.asarray(weight, dtype=np.float64)
    numbers = lead_numbers(leads, n)
    seen = card.log_odds(encode(frame, columns))
    won, lost = float(w @ outcome), float(w @ (1.0 - outcome))
    # Jeffreys' half for the range where nobody expects anything; cutoffs of one lead are one piece of evidence.
    share = (int(numbers.max()) + 1) / n if n else 1.0
    doubt = (share * won + 0.5, share * lost + 0.5)
    if expected_rate is not None:
        opinion = (1.0, 1.0 / expected_rate - 1.0)
        doubt = (share * won + opinion[0], share * lost + opinion[1])
        won, lost = won + opinion[0], lost + opinion[1]
        others = seen if population is None else card.log_odds(encode(population, columns))
        seen = np.vstack([seen, others])
        w = np.concatenate([w, np.full(len(others), sum(opinion) / len(others))])
    points = seen.sum(axis=1)
    level = _level(points, w, won / (won + lost))
    random = np.random.default_rng(seed)
    shown = random.permutation(len(points))[:CARD_ROWS]
    pairs = []
    for _ in range(replicates):
        rate = float(np.clip(random.beta(*doubt), 1e-6, 1.0 - 1e-6))
        slope = max(float(random.normal(1.0, CARD_SLOPE_SD[card.declared])), MIN_SLOPE)
        # The pair acts on the margin, which already holds the level.
        pairs.append((slope, _level(slope * points[shown], w[shown], rate) - slope * level))
    transforms = unfitted_transforms(columns)
    zeros = (0.0,) * sum(width(c, t) for c, t in zip(columns, transforms, strict=True))
    linear = LinearPart(
        columns=tuple(columns),
        transforms=transforms,
        intercept=level,
        coefficients=zeros,
        means=zeros,
        penalty=0.0,
        card=card,
        card_weight=1.0,
        card_means=tuple(float(v) for v in np.average(seen, axis=0, weights=w)),
    )
    return CalibratedModel(
        PropensityModel(tuple(columns), linear, "", 0.0),
        PlattCalibration(1.0, 0.0, tuple(pairs)),
        Evidence("points_card", len(np.unique(numbers[outcome == 1.0])), n),
    )


def _level(points: Floats, weight: Floats, rate: float) -> float:
    """The b at which the weighted mean of ``sigmoid(points + b)`` is ``rate``: found between two certain bounds."""
    low, high = -float(points.max()), -float(points.min())
    base = float(np.log(rate / (1.0 - rate)))
    low, high = base + low - 1e-9, base + high + 1e-9
    for _ in range(60):
        middle = 0.5 * (low + high)
        if float(np.average(expit(points + middle), weights=weight)) < rate:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
