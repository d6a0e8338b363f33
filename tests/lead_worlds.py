"""Simulated leads whose true conversion probability is known: 22 features, a base rate of 4 %, near-additive truth.

Seven counts may only raise it, three ages and a count of unsubscribes only lower it; seven numbers and four texts are
free; five features are pure noise. Counts and ages share how active a lead is, numbers share how well it fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit

from predictive_scoring.model.columns import Column, learn_columns
from predictive_scoring.settings import PointsRule

RAISING = tuple(f"visits_{i}" for i in range(7))
AGES = tuple(f"days_since_{i}" for i in range(3))
LOWERING = (*AGES, "unsubscribes")
FREE = tuple(f"number_{i}" for i in range(7))
TEXTS = tuple(f"text_{i}" for i in range(4))
KINDS = {**dict.fromkeys((*RAISING, *LOWERING, *FREE), "number"), **dict.fromkeys(TEXTS, "category")}
DIRECTIONS = {**dict.fromkeys(RAISING, 1), **dict.fromkeys(LOWERING, -1)}
NOISE = ("visits_5", "number_4", "number_5", "text_3")
BASE_RATE = 0.04
SPREAD = 1.1
"""Standard deviation of the true log-odds: the base rate alone then costs 24e-3 more log-loss than the truth."""
INTERACTION = 0.1
EXPERT_ERROR = 0.2
"""Standard deviation (log-odds) of what an expert says about one rule: three points."""
LEVELS = (3, 4, 5, 6)


@dataclass(frozen=True)
class World:
    """Leads, their true probabilities (n,), drawn outcomes (n,) and what an expert would write into the points card."""

    frame: pd.DataFrame
    p: np.ndarray
    y: np.ndarray
    rules: tuple[PointsRule, ...]

    def columns(self, known: int) -> tuple[Column, ...]:
        """The model's columns as learned on the first `known` leads."""
        return learn_columns(self.frame[:known], KINDS, directions=DIRECTIONS)


def lead_world(n: int, seed: int) -> World:
    """A world of n leads; every effect, its size and the expert's errors are drawn anew from the seed."""
    random = np.random.default_rng(seed)
    columns, parts = _features(random, n)
    size = {
        name: 0.0
        if name in NOISE
        else random.uniform(0.2, 1.0) * (random.choice([-1.0, 1.0]) if name in FREE else 1.0)
        for name in KINDS
    }
    effects = {name: size[name] * _standard(parts[name]) for name in KINDS}
    total = np.sum(list(effects.values()), axis=0)
    scale = SPREAD / total.std()
    z = total / total.std() + INTERACTION * _standard(parts["visits_0"]) * _standard(parts["number_0"])
    z = SPREAD * z / z.std()
    p = expit(z + brentq(lambda level: expit(z + level).mean() - BASE_RATE, -15.0, 5.0))
    frame = pd.DataFrame(columns)
    y = (random.random(n) < p).astype(float)
    rules = _expert(random, frame, {name: scale * effect for name, effect in effects.items()})
    return World(frame, p, y, rules)


def excess_log_loss(p: np.ndarray, told: np.ndarray) -> float:
    """How much more log-loss `told` has than the truth p: the mean Kullback-Leibler divergence."""
    return float(np.mean(p * np.log(p / told) + (1 - p) * np.log((1 - p) / (1 - told))))


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def _features(random: np.random.Generator, n: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Each feature as the model sees it, and as it enters the truth."""
    activity, fit = random.normal(size=(2, n))
    columns: dict[str, np.ndarray] = {}
    parts: dict[str, np.ndarray] = {}
    for i, name in enumerate(RAISING):
        rate = np.exp(-0.7 + 0.3 * (i % 2) + 0.56 * activity + 0.56 * random.normal(size=n))
        columns[name] = random.poisson(rate).astype(float)
        parts[name] = np.log1p(columns[name])
    for name in AGES:
        days = random.gamma(1.0, 30.0 * np.exp(-0.5 * activity), n)
        never = random.random(n) < expit(-1.0 - 0.8 * activity)
        columns[name] = np.where(never, np.nan, days)
        parts[name] = -np.log1p(np.where(never, 200.0, days))
    columns["unsubscribes"] = random.poisson(0.08, n).astype(float)
    parts["unsubscribes"] = -np.minimum(columns["unsubscribes"], 1.0)
    for i, name in enumerate(FREE):
        x = 0.5 * fit + random.normal(size=n)
        gone = random.random(n) < (0.3 if i in (1, 4) else 0.0)
        columns[name] = np.where(gone, np.nan, np.exp(x) if i % 2 else x)
        parts[name] = np.where(gone, 0.0, (x > 0.5) if i == 2 else x)
    for name, levels in zip(TEXTS, LEVELS, strict=True):
        code = random.choice(levels, n, p=random.dirichlet(np.full(levels, 2.0)))
        gone = random.random(n) < 0.1
        columns[name] = np.where(gone, None, np.array([f"L{c}" for c in range(levels)], dtype=object)[code])
        parts[name] = np.where(gone, 0.0, random.normal(size=levels)[code])
    return columns, parts


def _expert(
    random: np.random.Generator, frame: pd.DataFrame, effects: dict[str, np.ndarray]
) -> tuple[PointsRule, ...]:
    """Two steps per number, one line per level of a text: the true contrast and an error. A fifth is overlooked."""
    rules = []
    for name, effect in effects.items():
        overlooked = random.random() < 0.2
        told: list[PointsRule] = []
        x = frame[name]
        if name in TEXTS:
            for level in sorted(x.dropna().unique()):
                points = _told(random, effect[x == level].mean() - effect.mean())
                told.append(PointsRule(feature=name, points=points, equals=(level,)))
        else:
            favour = -x if name in AGES else x
            below = np.full(len(x), True)
            cuts = sorted({_cut(name, favour.quantile(q)) for q in (0.5, 0.8)})
            for cut in cuts:
                above = (favour >= cut).to_numpy()
                further = above & ~(favour >= cuts[-1]).to_numpy() if cut != cuts[-1] else above
                points = _told(random, effect[further].mean() - effect[below & ~above].mean())
                if name in DIRECTIONS:
                    points = abs(points) * (-1 if name == "unsubscribes" else 1)
                bound = {"max": -cut} if name in AGES else {"min": cut}
                told.append(PointsRule(feature=name, points=points, **bound))
                below = above
        if not overlooked:
            rules += [rule for rule in told if abs(rule.points) > 1]
    return tuple(rules)


def _cut(name: str, favour: float) -> float:
    return (
        max(round(float(favour), 2), 1.0) if name in (*RAISING, "unsubscribes") else round(float(favour), 2)
    )


def _told(random: np.random.Generator, log_odds: float) -> int:
    return round(float(np.clip((log_odds + random.normal(0.0, EXPERT_ERROR)) * 10 / np.log(2), -40, 40)))
