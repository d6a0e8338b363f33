"""Choosing the settings of the blend on the newest matured period, block by block in time order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from predictive_scoring.model.booster import booster_margin, fit_booster
from predictive_scoring.model.columns import Column
from predictive_scoring.model.linear import LinearPart, fit_linear
from predictive_scoring.model.platt import platt_newton

Floats = npt.NDArray[np.float64]

PENALTIES = (10.0, 100.0, 1000.0)
HALF_LIVES = (None, 0.2)
"""Recency half-lives as a share of the rows: None weighs all rows alike, 0.2 halves the weight every fifth of them."""
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
ROUNDS = (40, 80, 160, 320)
BLEND_CONVERSIONS = 60
"""Below this many conversions trees only add noise: ridge alone (METHODS section 1, ladder)."""
BLOCKS = 4
BLOCK_CONVERSIONS = 20
PERIODS = 8
"""Stretches of the recent rows that the standard error of the booster's gain is taken over."""


@dataclass(frozen=True)
class Trial:
    """One candidate of the selection: its settings and its out-of-fold log-loss after a Platt fit."""

    penalty: float
    half_life: float | None
    rounds: int
    weight: float
    log_loss: float


@dataclass(frozen=True)
class Found:
    """What a search ends with: the winner, its out-of-fold recent margins, all trials, the refitted parts."""

    chosen: Trial
    recent_margin: Floats
    trials: tuple[Trial, ...]
    linear: LinearPart
    booster_text: str


@dataclass(frozen=True)
class Search:
    """The rows every candidate is judged on.

    ``encoded`` (n, k), ``y`` (n,) and ``weight`` (n,) in time order; ``edges`` are the row positions at which the
    recent blocks begin, and n. Each block is predicted by models fitted on all rows before it.
    """

    encoded: Floats
    y: Floats
    weight: Floats
    columns: tuple[Column, ...]
    seed: int
    edges: tuple[int, ...]

    def run(self) -> Found:
        """Try every candidate, choose, and refit the winner on all rows."""
        first = self.edges[0]
        y, w = self.y[first:], self.weight[first:]
        trials: list[Trial] = []
        losses: list[Floats] = []

        def judged(trial: Trial, margin: Floats) -> None:
            rows = _calibrated_loss(margin, y, w)
            losses.append(rows)
            trials.append(
                Trial(
                    trial.penalty,
                    trial.half_life,
                    trial.rounds,
                    trial.weight,
                    float(np.average(rows, weights=w)),
                )
            )

        ridge: dict[tuple[float, float | None], Floats] = {}
        # Simplest first: _choose_ridge relies on the order.
        for half_life in HALF_LIVES:
            for penalty, margin in self._ridge_margins(half_life).items():
                ridge[penalty, half_life] = margin
                judged(Trial(penalty, half_life, 0, 0.0, 0.0), margin)
        best = _choose_ridge(trials, losses, w)
        chosen, margin = trials[best], ridge[trials[best].penalty, trials[best].half_life]
        if int(self.y.sum()) >= BLEND_CONVERSIONS:
            trees = self._booster_margins(chosen.half_life)
            # The number of trees is the booster's own affair: judged alone, then blended.
            rounds = min(trees, key=lambda r: float(np.average(_calibrated_loss(trees[r], y, w), weights=w)))
            start = len(trials)
            blends = [margin]
            for share in WEIGHTS[1:]:
                blends.append(share * trees[rounds] + (1.0 - share) * margin)
                judged(Trial(chosen.penalty, chosen.half_life, rounds, share, 0.0), blends[-1])
            pick = _least_booster_within_one_error([losses[best], *losses[start:]], w)
            if pick > 0:
                chosen, margin = trials[start + pick - 1], blends[pick]
        return Found(chosen, margin, tuple(trials), *self._refit(chosen))

    def _recency(self, rows: int, half_life: float | None) -> Floats:
        weight = self.weight[:rows]
        if half_life is None:
            return weight
        decay = 0.5 ** ((rows - 1 - np.arange(rows)) / (half_life * rows))
        result: Floats = weight * decay / decay.mean()
        return result

    def _ridge_margins(self, half_life: float | None) -> dict[float, Floats]:
        parts: dict[float, list[Floats]] = {penalty: [] for penalty in PENALTIES}
        for low, high in zip(self.edges[:-1], self.edges[1:], strict=True):
            fitted: LinearPart | None = None
            # Strongest penalty first: each fit starts from its neighbour's solution.
            for penalty in sorted(PENALTIES, reverse=True):
                fitted = fit_linear(
                    self.encoded[:low],
                    self.y[:low],
                    self.columns,
                    penalty=penalty,
                    weight=self._recency(low, half_life),
                    start=fitted,
                )
                parts[penalty].append(fitted.margin(self.encoded[low:high]))
        return {penalty: np.concatenate(blocks) for penalty, blocks in parts.items()}

    def _booster_margins(self, half_life: float | None) -> dict[int, Floats]:
        parts: dict[int, list[Floats]] = {rounds: [] for rounds in ROUNDS}
        for low, high in zip(self.edges[:-1], self.edges[1:], strict=True):
            booster = fit_booster(
                self.encoded[:low],
                self.y[:low],
                self.columns,
                rounds=max(ROUNDS),
                seed=self.seed,
                weight=self._recency(low, half_life),
            )
            for rounds in ROUNDS:
                parts[rounds].append(
                    booster_margin(booster, self.encoded[low:high], self.columns, rounds=rounds)
                )
        return {rounds: np.concatenate(blocks) for rounds, blocks in parts.items()}

    def _refit(self, chosen: Trial) -> tuple[LinearPart, str]:
        weight = self._recency(len(self.y), chosen.half_life)
        linear = fit_linear(self.encoded, self.y, self.columns, penalty=chosen.penalty, weight=weight)
        text = ""
        if chosen.weight > 0.0:
            text = fit_booster(
                self.encoded, self.y, self.columns, rounds=chosen.rounds, seed=self.seed, weight=weight
            ).model_to_string()
        return linear, text


def time_blocks(y_recent: Floats, times: npt.ArrayLike | None, start: int) -> tuple[int, ...]:
    """Return the row positions at which the recent blocks begin, and the end."""
    n = len(y_recent)
    count = int(np.clip(y_recent.sum() // BLOCK_CONVERSIONS, 1, BLOCKS))
    edges = np.linspace(0, n, count + 1).astype(int)
    if times is not None:
        # Move each edge down to the first row of its time.
        stamps = np.asarray(times)
        edges[1:-1] = np.searchsorted(stamps, stamps[edges[1:-1]], side="left")
    return tuple(int(start + edge) for edge in np.unique(edges))


def _calibrated_loss(margin: Floats, y: Floats, weight: Floats) -> Floats:
    a, b = platt_newton(margin, y, weight)
    z = a * margin + b
    result: Floats = np.logaddexp(0.0, z) - y * z
    return result


def _choose_ridge(trials: Sequence[Trial], losses: Sequence[Floats], weight: Floats) -> int:
    """Best penalty of each half-life, then the first half-life within one standard error of the best."""
    best = [
        min((i for i, t in enumerate(trials) if t.half_life == h), key=lambda i: trials[i].log_loss)
        for h in HALF_LIVES
    ]
    return best[_simplest_within_one_error([losses[i] for i in best], weight)]


def _simplest_within_one_error(losses: Sequence[Floats], weight: Floats) -> int:
    """Index of the first candidate whose mean loss is within one standard error (paired) of the best one's."""
    means = [float(np.average(rows, weights=weight)) for rows in losses]
    best = int(np.argmin(means))
    for i, rows in enumerate(losses):
        difference = (rows - losses[best]) * weight
        if means[i] - means[best] <= float(difference.std()) / np.sqrt(len(difference)):
            return i
    return best


def _least_booster_within_one_error(losses: Sequence[Floats], weight: Floats) -> int:
    """Index of the smallest booster share within one standard error of the best; index 0 is the ridge alone.

    The error is that of the best share's gain over the ridge, taken over PERIODS stretches of time, not rows: rows
    of one stretch share its drift, and row by row the error looks three times too small (bank data in date order).
    """
    means = [float(np.average(rows, weights=weight)) for rows in losses]
    best = int(np.argmin(means))
    gain = np.array(
        [
            np.average(part, weights=w) if w.sum() > 0 else 0.0
            for part, w in zip(
                np.array_split(losses[0] - losses[best], PERIODS),
                np.array_split(weight, PERIODS),
                strict=True,
            )
        ]
    )
    error = float(gain.std(ddof=1)) / np.sqrt(PERIODS)
    return next(i for i, mean in enumerate(means) if mean - means[best] <= error)
