"""Choosing the settings of the blend on the newest matured period, block by block in time order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from predictive_scoring.model.booster import DEFAULT_SETTINGS, BoosterSettings, booster_margin, fit_booster
from predictive_scoring.model.columns import Column
from predictive_scoring.model.folds import Positions
from predictive_scoring.model.linear import LinearPart, fit_linear
from predictive_scoring.model.platt import platt_newton
from predictive_scoring.model.points import PointsCard

Floats = npt.NDArray[np.float64]

PENALTIES = (10.0, 100.0, 1000.0)
USUAL_PENALTY = 30.0
SETTING_CONVERSIONS = 200
"""Below this many conversions the ridge keeps USUAL_PENALTY and all rows weigh alike: simulated worlds with 40, 120 and
1,000 conversions all do best near it, and a handful of recent conversions cannot tell (excess log-loss at 40: 8.2e-3
with it, 10.2e-3 with the penalty that looks best on the ten recent ones)."""
HALF_LIVES = (None, 0.2)
"""Recency half-lives as a share of the rows: None weighs all rows alike, 0.2 halves the weight every fifth of them."""
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
SIZES = (
    DEFAULT_SETTINGS,
    BoosterSettings(leaves=4, learning_rate=0.1),
    BoosterSettings(leaves=16, feature_fraction=0.5),
)
"""Boosters that are tried, the usual one first; a search with a budget tries others (see `tuning`)."""
ROUNDS = (20, 40, 80, 160, 320)
BLEND_CONVERSIONS = 60
"""Below this many conversions trees only add noise: ridge alone (METHODS section 1, ladder)."""
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
    booster: BoosterSettings = DEFAULT_SETTINGS

    def parameters(self) -> dict[str, Any]:
        """Settings by name, as a log of runs shows them; those of the booster only where there is one."""
        ridge = {"ridge_penalty": self.penalty, "recency_half_life": self.half_life}
        blend = {"boosting_rounds": self.rounds, "boosting_weight": self.weight}
        if not self.rounds:
            return {**ridge, **blend}
        settings = self.booster.to_document().items()
        return {**ridge, **blend, **{f"boosting_{name}": value for name, value in settings}}


@dataclass(frozen=True)
class Judged:
    """A candidate with its out-of-fold margins and row losses, both (n_recent,)."""

    trial: Trial
    margin: Floats
    losses: Floats


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
    recent blocks begin, and n. Each block is predicted by models fitted on its rows of ``training`` (one entry per
    block), or else on all rows before it. ``card`` is the points card the ridge starts from. ``drifting`` says that the
    order of the rows is their time: newer rows may then weigh more, and what is not clearly better is not chosen.
    """

    encoded: Floats
    y: Floats
    weight: Floats
    columns: tuple[Column, ...]
    seed: int
    edges: tuple[int, ...]
    card: PointsCard | None = None
    training: tuple[Positions, ...] | None = None
    drifting: bool = True

    def run(self) -> Found:
        """Try every candidate, choose, and refit the winner on all rows."""
        chosen, tried = self.choose()
        return self.refitted(chosen, [candidate.trial for candidate in tried])

    def choose(self) -> tuple[Judged, list[Judged]]:
        """The winner of the usual candidates, and all of them."""
        conversions = int(self.y.sum())
        choosy = conversions >= SETTING_CONVERSIONS
        tried = [
            self.judged(Trial(penalty, half_life, 0, 0.0, 0.0), margin)
            # Simplest first: _choose_ridge relies on the order.
            for half_life in (HALF_LIVES if choosy and self.drifting else HALF_LIVES[:1])
            for penalty, margin in self._ridge_margins(
                half_life, PENALTIES if choosy else (USUAL_PENALTY,)
            ).items()
        ]
        ridge = _choose_ridge(tried, self.recent_weight)
        if conversions < BLEND_CONVERSIONS:
            return ridge, tried
        # The booster's settings are its own affair: judged alone, then blended.
        boosters = [
            min(
                (
                    self.judged(replace(ridge.trial, rounds=rounds, weight=1.0, booster=settings), margin)
                    for rounds, margin in self._booster_margins(ridge.trial.half_life, settings).items()
                ),
                key=lambda candidate: candidate.trial.log_loss,
            )
            for settings in (SIZES if choosy else SIZES[:1])
        ]
        best = self._booster_choice(boosters)
        blends = self.blends(ridge, best)
        return self.share_choice(blends), [
            *tried,
            *(candidate for candidate in boosters if candidate is not best),
            *blends[1:],
        ]

    def _booster_choice(self, boosters: Sequence[Judged]) -> Judged:
        """The best booster if it beats the usual one, the first, by one standard error; else the usual one."""
        usual, best = boosters[0], min(boosters, key=lambda candidate: candidate.trial.log_loss)
        gain = usual.trial.log_loss - best.trial.log_loss
        if self.drifting and gain <= gain_error(usual.losses, best.losses, self.recent_weight):
            return usual
        return best

    def share_choice(self, blends: Sequence[Judged]) -> Judged:
        """Of blends with a growing share of the booster, the smallest share within one standard error of the best.

        Where rows have no order nothing drifts, and the best share is the best."""
        if not self.drifting:
            return min(blends, key=lambda candidate: candidate.trial.log_loss)
        return blends[_least_booster_within_one_error([b.losses for b in blends], self.recent_weight)]

    @property
    def recent_y(self) -> Floats:
        """Outcomes (n_recent,) of the blocks."""
        return self.y[self.edges[0] :]

    @property
    def recent_weight(self) -> Floats:
        """Weights (n_recent,) of the blocks."""
        return self.weight[self.edges[0] :]

    def judged(self, trial: Trial, margin: Floats) -> Judged:
        """The candidate with its losses after a Platt fit on its margins (n_recent,)."""
        losses = calibrated_loss(margin, self.recent_y, self.recent_weight)
        mean = float(np.average(losses, weights=self.recent_weight))
        return Judged(replace(trial, log_loss=mean), margin, losses)

    def blends(self, ridge: Judged, booster: Judged) -> list[Judged]:
        """The ridge, then the blends with a growing share of the booster, up to the booster alone."""
        shares = [
            self.judged(
                replace(booster.trial, weight=share),
                share * booster.margin + (1.0 - share) * ridge.margin,
            )
            for share in WEIGHTS[1:]
        ]
        return [ridge, *shares]

    def fits(self) -> Iterator[tuple[Positions, Positions]]:
        """(rows to learn from, rows to predict) of each fit; blocks that learn from the same rows share one."""
        training = self.training or tuple(np.arange(low) for low in self.edges[:-1])
        pending: tuple[Positions, Positions] | None = None
        for rows, low, high in zip(training, self.edges[:-1], self.edges[1:], strict=True):
            block = np.arange(low, high)
            if pending is not None and np.array_equal(rows, pending[0]):
                pending = pending[0], np.concatenate([pending[1], block])
                continue
            if pending is not None:
                yield pending
            pending = rows, block
        if pending is not None:
            yield pending

    def recency(self, rows: Positions, half_life: float | None) -> Floats:
        """Weights of the rows, halved every ``half_life`` of them going back."""
        weight = self.weight[rows]
        if half_life is None:
            return weight
        decay = 0.5 ** (np.arange(len(rows))[::-1] / (half_life * len(rows)))
        result: Floats = weight * decay / decay.mean()
        return result

    def fit_ridge(
        self, rows: Positions, penalty: float, half_life: float | None, start: LinearPart | None = None
    ) -> LinearPart:
        """The ridge on these rows; ``start`` is a fit on the same rows with another penalty."""
        return fit_linear(
            self.encoded[rows],
            self.y[rows],
            self.columns,
            penalty=penalty,
            weight=self.recency(rows, half_life),
            start=start,
            card=self.card,
        )

    def _ridge_margins(
        self, half_life: float | None, penalties: Sequence[float] = PENALTIES
    ) -> dict[float, Floats]:
        parts: dict[float, list[Floats]] = {penalty: [] for penalty in penalties}
        for rows, block in self.fits():
            fitted: LinearPart | None = None
            # Strongest penalty first: each fit starts from its neighbour's solution.
            for penalty in sorted(penalties, reverse=True):
                fitted = self.fit_ridge(rows, penalty, half_life, fitted)
                parts[penalty].append(fitted.margin(self.encoded[block]))
        return {penalty: np.concatenate(blocks) for penalty, blocks in parts.items()}

    def block_booster_margins(
        self,
        rows: Positions,
        block: Positions,
        half_life: float | None,
        settings: BoosterSettings,
        rounds: Sequence[int],
    ) -> dict[int, Floats]:
        """Margins of a block by the first so many trees of one booster fitted on these rows."""
        booster = fit_booster(
            self.encoded[rows],
            self.y[rows],
            self.columns,
            rounds=max(rounds),
            seed=self.seed,
            weight=self.recency(rows, half_life),
            settings=settings,
        )
        return {
            count: booster_margin(booster, self.encoded[block], self.columns, rounds=count)
            for count in rounds
        }

    def _booster_margins(
        self, half_life: float | None, settings: BoosterSettings = DEFAULT_SETTINGS
    ) -> dict[int, Floats]:
        parts = [
            self.block_booster_margins(rows, block, half_life, settings, ROUNDS)
            for rows, block in self.fits()
        ]
        return {rounds: np.concatenate([part[rounds] for part in parts]) for rounds in ROUNDS}

    def refitted(self, chosen: Judged, trials: Sequence[Trial]) -> Found:
        """The winner fitted on all rows."""
        trial, everything = chosen.trial, np.arange(len(self.y))
        text = ""
        if trial.weight > 0.0:
            text = fit_booster(
                self.encoded,
                self.y,
                self.columns,
                rounds=trial.rounds,
                seed=self.seed,
                weight=self.recency(everything, trial.half_life),
                settings=trial.booster,
            ).model_to_string()
        linear = self.fit_ridge(everything, trial.penalty, trial.half_life)
        return Found(trial, chosen.margin, tuple(trials), linear, text)


def calibrated_loss(margin: Floats, y: Floats, weight: Floats) -> Floats:
    """Log-loss of each row (n,) after a Platt fit, because calibration always follows."""
    a, b = platt_newton(margin, y, weight)
    z = a * margin + b
    result: Floats = np.logaddexp(0.0, z) - y * z
    return result


def _choose_ridge(tried: Sequence[Judged], weight: Floats) -> Judged:
    """Best penalty of each half-life, then the first half-life within one standard error of the best."""
    best = [
        min((c for c in tried if c.trial.half_life == h), key=lambda c: c.trial.log_loss)
        for h in dict.fromkeys(candidate.trial.half_life for candidate in tried)
    ]
    return best[_simplest_within_one_error([candidate.losses for candidate in best], weight)]


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
    """Index of the smallest booster share within one standard error of the best; index 0 is the ridge alone."""
    means = [float(np.average(rows, weights=weight)) for rows in losses]
    best = int(np.argmin(means))
    error = gain_error(losses[0], losses[best], weight)
    return next(i for i, mean in enumerate(means) if mean - means[best] <= error)


def gain_error(before: Floats, after: Floats, weight: Floats) -> float:
    """Standard error of the mean gain of one candidate's row losses (n,) over another's.

    Taken over PERIODS stretches of time, not rows: rows of one stretch share its drift, and row by row the error looks
    three times too small (bank data in date order).
    """
    stretches = zip(np.array_split(before - after, PERIODS), np.array_split(weight, PERIODS), strict=True)
    gain = np.array([np.average(part, weights=w) if w.sum() > 0 else 0.0 for part, w in stretches])
    return float(gain.std(ddof=1)) / float(np.sqrt(PERIODS))
