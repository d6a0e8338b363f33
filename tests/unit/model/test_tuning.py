import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from predictive_scoring.model import search as usual
from predictive_scoring.model import tuning
from predictive_scoring.model.booster import booster_margin, load_booster
from predictive_scoring.model.columns import Column
from predictive_scoring.model.platt import platt_newton
from predictive_scoring.model.search import Search, calibrated_loss, gain_error
from predictive_scoring.model.tuning import SPACE, Tuning, study_name, tuned

COLUMNS = (Column("a", "number"), Column("b", "number", (), 1), Column("c", "category", ("x", "y", "z")))


def rows(n: int = 720, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    encoded = np.column_stack(
        [random.normal(size=n), random.gamma(1.0, 1.0, n), random.integers(0, 4, n).astype(float)]
    )
    z = -0.3 + encoded[:, 0] * (encoded[:, 1] > 1.0) + 0.5 * (encoded[:, 2] == 1.0)
    return encoded, (random.random(n) < 1.0 / (1.0 + np.exp(-z))).astype(float)


def search(seed: int = 1, n: int = 720) -> Search:
    encoded, y = rows(n)
    return Search(encoded, y, np.ones(n), COLUMNS, seed, (n // 2, 3 * n // 4, n))


SMALL = {
    # Suggestions that follow what was seen, and trials stopped early, within a handful of trials.
    (tuning, "STARTUP"): 2,
    (tuning, "SPACE"): SPACE | {"rounds": (5, 80)},
    (usual, "ROUNDS"): (20, 40),
    (usual, "SIZES"): usual.SIZES[:1],
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A quicker search; nothing else about it changes."""
    for (module, name), value in SMALL.items():
        monkeypatch.setattr(module, name, value)


def same(one, other) -> bool:
    return (one.chosen, one.trials, one.linear, one.booster_text) == (
        other.chosen,
        other.trials,
        other.linear,
        other.booster_text,
    ) and np.array_equal(one.recent_margin, other.recent_margin)


def test_a_search_in_two_runs_ends_as_one_in_one_run(tmp_path):
    whole = tuned(search(), Tuning(6, storage=tmp_path / "whole.db"))
    tuned(search(), Tuning(3, storage=tmp_path / "parts.db"))
    told = []
    parts = tuned(
        search(), Tuning(6, storage=tmp_path / "parts.db", progress=lambda *done: told.append(done))
    )
    assert same(parts, whole)
    assert told == [(3, 6), (4, 6), (5, 6), (6, 6)]
    # Nothing is left to do: the same answer again, and no new trial.
    told.clear()
    assert same(
        tuned(search(), Tuning(6, storage=tmp_path / "parts.db", progress=lambda *d: told.append(d))), whole
    )
    assert told == [(6, 6)]


def test_without_a_file_the_answer_is_the_same(tmp_path):
    assert same(tuned(search(), Tuning(4)), tuned(search(), Tuning(4, storage=tmp_path / "a.db")))


def test_the_first_trial_is_the_usual_winner_and_all_are_within_the_space():
    winner, tried = search().choose()
    found = tuned(search(), Tuning(5))
    added = found.trials[len(tried) :]
    first = added[0]
    assert 1 <= len(added) <= 5
    assert (first.penalty, first.half_life) == (winner.trial.penalty, winner.trial.half_life)
    for trial in added:
        assert SPACE["penalty"][0] <= trial.penalty <= SPACE["penalty"][1]
        assert tuning.SPACE["rounds"][0] <= trial.rounds <= tuning.SPACE["rounds"][1]
        assert trial.booster.leaves in SPACE["leaves"]
        assert np.isfinite(trial.log_loss)


def test_only_what_is_better_by_one_standard_error_replaces_the_usual_winner():
    searched = search()
    winner, tried = searched.choose()
    found = tuned(searched, Tuning(6))
    if found.chosen == winner.trial:
        return
    y, w = searched.recent_y, searched.recent_weight
    losses = calibrated_loss(found.recent_margin, y, w)
    assert winner.trial.log_loss - found.chosen.log_loss > gain_error(winner.losses, losses, w)
    assert found.chosen in found.trials[len(tried) :]


def test_a_search_in_noise_does_no_harm():
    encoded, _ = rows()
    harm = []
    for seed in range(4):
        y = (np.random.default_rng(seed).random(len(encoded)) < 0.4).astype(float)
        noise = Search(encoded, y, np.ones(len(y)), COLUMNS, seed, (360, 540, 720))
        losses = []
        for found in (noise.run(), tuned(noise, Tuning(8))):
            a, b = platt_newton(found.recent_margin, y[360:])
            margin = (1.0 - found.chosen.weight) * found.linear.margin(encoded)
            if found.booster_text:
                margin += found.chosen.weight * booster_margin(
                    load_booster(found.booster_text), encoded, COLUMNS
                )
            # What these probabilities lose on average where 40 % convert.
            z = a * margin + b
            losses.append(float((np.logaddexp(0.0, z) - 0.4 * z).mean()))
        harm.append(losses[1] - losses[0])
    assert np.mean(harm) <= 0.001


def test_a_study_belongs_to_its_rows_columns_and_seed():
    names = {study_name(search()), study_name(search(seed=2)), study_name(search(n=724))}
    assert len(names) == 3
    assert study_name(search()) == study_name(search())


def test_minutes_end_a_search_and_trials_need_not_be_given():
    clock = iter(float(second) for second in range(0, 1000, 25))
    told = []
    tuned(search(), Tuning(minutes=1.0, clock=lambda: next(clock), progress=lambda *done: told.append(done)))
    # Begun at 0, looked at after 25 and 50 seconds, over at 75.
    assert told == [(0, None), (1, None), (2, None)]


@pytest.mark.parametrize("budget", [{"trials": 0}, {"minutes": 0.0}])
def test_a_budget_of_nothing_is_refused(budget):
    with pytest.raises(ValueError, match="search needs"):
        Tuning(**budget)


SCRIPT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from test_tuning import SMALL, search
    from predictive_scoring.model.tuning import Tuning, tuned
    for (module, name), value in SMALL.items():
        setattr(module, name, value)
    tuned(search(), Tuning(8, storage=Path(sys.argv[2]), progress=lambda done, _: print(done, flush=True)))
    """
)


@pytest.mark.trial
def test_a_killed_search_goes_on_where_it_stood_and_ends_the_same(tmp_path):
    place = tmp_path / "study.db"
    run = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, os.path.dirname(__file__), str(place)],  # noqa: PTH120
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for line in run.stdout:
            if int(line) >= 3:
                break
        # Somewhere within a trial.
        time.sleep(0.03)
        run.send_signal(signal.SIGKILL)
    finally:
        run.kill()
        run.wait()
        run.stdout.close()
    told = []
    again = tuned(search(), Tuning(8, storage=place, progress=lambda done, _: told.append(done)))
    assert 3 <= told[0] < 8
    assert told[-1] == 8
    assert same(again, tuned(search(), Tuning(8)))
