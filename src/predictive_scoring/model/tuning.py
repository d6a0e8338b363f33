"""A wider search for the settings of the blend, with a budget (Akiba et al., 2019: Optuna; TPE: Bergstra et al., 2011).

Candidates are judged as in `search`: by the log-loss, after a Platt fit, of out-of-fold margins of the recent blocks.
A trial is one ridge and one booster; their shares are chosen afterwards from the same margins by the usual rule. The
search starts from the usual settings, and its best candidate replaces the usual winner only when it is better by one
standard error: the best of many trials looks better than it is.

A study is a row of a SQLite file, named by a hash of rows, columns and space: a killed search goes on where it stood.
Suggestions depend on the seed and the finished trials alone, so that it ends as an unbroken one of as many trials.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from predictive_scoring.model.booster import BoosterSettings
from predictive_scoring.model.search import (
    SETTING_CONVERSIONS,
    WEIGHTS,
    Found,
    Judged,
    Search,
    Trial,
    calibrated_loss,
    gain_error,
)

if TYPE_CHECKING:
    import optuna

SPACE: dict[str, tuple[Any, ...]] = {
    "penalty": (1.0, 3000.0),
    "half_life": (None, 0.5, 0.2, 0.1),
    "leaves": (4, 8, 16, 31),
    "learning_rate": (0.02, 0.2),
    "rounds": (20, 600),
    "min_data": (10, 300),
    "l2": (0.1, 100.0),
    "feature_fraction": (0.2, 1.0),
}
"""What is searched. Ranges on a logarithmic scale, but for the fraction; half-lives and leaves are choices."""
USUAL_TRIALS = 100
"""Trials of a search that is given neither a number nor a time."""
USUAL_ROUNDS = 80
"""Trees of the first trial when the usual winner has none."""
STARTUP = 12
"""Random trials before the sampler follows what it saw; none is stopped early during them."""


@dataclass(frozen=True)
class Tuning:
    """A budget: at most ``trials`` finished trials, those of earlier runs of the same study counted, and at most
    ``minutes`` of this run. Without either, USUAL_TRIALS.

    ``storage`` is the SQLite file that keeps studies; without it a killed search begins anew. ``progress`` is told
    (trials done, trials wanted or None) after each.
    """

    trials: int | None = None
    minutes: float | None = None
    storage: Path | None = None
    progress: Callable[[int, int | None], None] | None = None
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    def __post_init__(self) -> None:
        if self.trials is not None and self.trials < 1:
            raise ValueError(f"a search needs at least one trial, not {self.trials}")
        if self.minutes is not None and not self.minutes > 0.0:
            raise ValueError(f"a search needs more than {self.minutes} minutes")

    @property
    def wanted(self) -> int | None:
        """Finished trials at which to stop; None when only time counts."""
        return USUAL_TRIALS if self.trials is None and self.minutes is None else self.trials


def tuned(search: Search, tuning: Tuning) -> Found:
    """Choose as usual, then look further within the budget; refit the winner on all rows.

    Below SETTING_CONVERSIONS conversions nothing is searched: they cannot tell settings apart.
    """
    usual, tried = search.choose()
    trials = [candidate.trial for candidate in tried]
    if int(search.y.sum()) < SETTING_CONVERSIONS:
        return search.refitted(usual, trials)
    with _study(search, tuning.storage) as study:
        _spend(study, search, usual, tuning)
        finished = _finished(study)
        whole = [trial for trial in finished if trial.state.name == "COMPLETE"]
        trials += [_described(trial) for trial in whole]
    chosen = usual
    if whole:
        # Of equals the first; judged again, because a study keeps no margins.
        found = _judged(search, min(whole, key=lambda trial: trial.value or 0.0).params)
        gain = usual.trial.log_loss - found.trial.log_loss
        if gain > gain_error(usual.losses, found.losses, search.recent_weight):
            chosen = found
    return search.refitted(chosen, trials)


def study_name(search: Search) -> str:
    """A hash of everything that decides how a trial comes out."""
    digest = hashlib.sha256()
    for part in (search.encoded, search.y, search.weight, *(search.training or ())):
        digest.update(np.ascontiguousarray(part).tobytes())
    facts = {
        "columns": [column.to_document() for column in search.columns],
        "space": SPACE,
        "seed": search.seed,
        "edges": search.edges,
        "drifting": search.drifting,
        "card": None if search.card is None else search.card.to_document(),
    }
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return digest.hexdigest()[:32]


@contextmanager
def _study(search: Search, path: Path | None) -> Iterator[optuna.Study]:
    """The study of this search, begun or gone on with."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP)
    if path is None:
        yield optuna.create_study(direction="minimize", pruner=pruner)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    try:
        study = optuna.create_study(
            study_name=study_name(search),
            storage=storage,
            load_if_exists=True,
            direction="minimize",
            pruner=pruner,
        )
        # What a killed run left half done would count in the suggestions.
        for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        yield study
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _spend(study: optuna.Study, search: Search, usual: Judged, tuning: Tuning) -> None:
    """Run trials until the budget is spent."""
    import optuna

    end = None if tuning.minutes is None else tuning.clock() + 60.0 * tuning.minutes
    wanted = tuning.wanted
    while True:
        done = len(_finished(study))
        if tuning.progress is not None:
            tuning.progress(done, wanted)
        if (wanted is not None and done >= wanted) or (end is not None and tuning.clock() >= end):
            return
        # A sampler of its own for each trial: its state must not depend on how often the search was killed.
        study.sampler = optuna.samplers.TPESampler(
            seed=(search.seed * 1_000_003 + done) % 2**32, n_startup_trials=STARTUP, constant_liar=False
        )
        waiting = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,))
        if done == 0 and not waiting:
            study.enqueue_trial(_usual_parameters(usual.trial))
        trial = study.ask()
        try:
            judged = _judged(search, _suggested(trial, search), trial, usual)
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED, skip_if_finished=True)
            continue
        trial.set_user_attr("weight", judged.trial.weight)
        study.tell(trial, judged.trial.log_loss, skip_if_finished=True)


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _usual_parameters(usual: Trial) -> dict[str, Any]:
    return {
        "penalty": usual.penalty,
        "half_life": usual.half_life,
        "rounds": usual.rounds or USUAL_ROUNDS,
        **usual.booster.to_document(),
    }


def _suggested(trial: optuna.Trial, search: Search) -> dict[str, Any]:
    half_lives = SPACE["half_life"] if search.drifting else SPACE["half_life"][:1]
    return {
        "penalty": trial.suggest_float("penalty", *SPACE["penalty"], log=True),
        "half_life": trial.suggest_categorical("half_life", half_lives),
        "rounds": trial.suggest_int("rounds", *SPACE["rounds"], log=True),
        "leaves": trial.suggest_categorical("leaves", SPACE["leaves"]),
        "learning_rate": trial.suggest_float("learning_rate", *SPACE["learning_rate"], log=True),
        "min_data": trial.suggest_int("min_data", *SPACE["min_data"], log=True),
        "l2": trial.suggest_float("l2", *SPACE["l2"], log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", *SPACE["feature_fraction"]),
    }


def _trial(parameters: Mapping[str, Any], weight: float, log_loss: float) -> Trial:
    booster = {
        name: value for name, value in parameters.items() if name not in ("penalty", "half_life", "rounds")
    }
    return Trial(
        parameters["penalty"],
        parameters["half_life"],
        parameters["rounds"],
        weight,
        log_loss,
        BoosterSettings.from_document(booster),
    )


def _described(trial: optuna.trial.FrozenTrial) -> Trial:
    return _trial(trial.params, float(trial.user_attrs["weight"]), float(trial.value or 0.0))


def _judged(
    search: Search,
    parameters: Mapping[str, Any],
    trial: optuna.Trial | None = None,
    usual: Judged | None = None,
) -> Judged:
    """The blend of these settings; ``trial`` is told block by block how it stands beside the usual winner.

    Raises TrialPruned when the trial is told to stop."""
    wanted = _trial(parameters, 0.0, 0.0)
    ridge, trees = np.zeros(0), np.zeros(0)
    for rows, block in search.fits():
        linear = search.fit_ridge(rows, wanted.penalty, wanted.half_life)
        ridge = np.append(ridge, linear.margin(search.encoded[block]))
        by_rounds = search.block_booster_margins(
            rows, block, wanted.half_life, wanted.booster, (wanted.rounds,)
        )
        trees = np.append(trees, by_rounds[wanted.rounds])
        if trial is None or usual is None or len(ridge) == len(search.recent_y):
            continue
        y, weight = search.recent_y[: len(ridge)], search.recent_weight[: len(ridge)]
        best = min(
            float(
                np.average(calibrated_loss(share * trees + (1.0 - share) * ridge, y, weight), weights=weight)
            )
            for share in WEIGHTS
        )
        # Blocks differ in how hard they are: what counts is the loss beside the usual winner's.
        trial.report(best - float(np.average(usual.losses[: len(ridge)], weights=weight)), len(ridge))
        if trial.should_prune():
            import optuna

            raise optuna.TrialPruned
    alone = search.judged(replace(wanted, rounds=0), ridge)
    return search.share_choice(search.blends(alone, search.judged(replace(wanted, weight=1.0), trees)))
