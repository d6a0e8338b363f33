"""Killed at any step, `promote` and `train` leave the champion served, and the next run works."""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from kills import Killer, killer
from predictive_scoring.keeping.bundle import read_bundle
from predictive_scoring.keeping.golden import FILE as GOLDEN
from predictive_scoring.keeping.golden import ROWS, check_golden
from predictive_scoring.scoring import champion_scorer

if TYPE_CHECKING:
    from conftest import Registered, SmallProject
    from predictive_scoring.keeping.champion import BundleStore

TRAIN_KILLS = int(os.environ.get("PREDICTIVE_SCORING_TRAIN_KILLS", "20"))
"""20 of each kind take six minutes each."""


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    with killer(tmp_path_factory.mktemp("killed")) as process:
        yield process


def served(store: BundleStore) -> str:
    """The champion's version, once its bundle was verified and gave its golden scores."""
    scorer = champion_scorer(store)
    promotion = store.champion()
    golden = read_bundle(store.path(promotion.bundle)).files[GOLDEN]
    assert check_golden(scorer.scoring, golden, "the champion") == ROWS
    return promotion.version


def leftovers(store: BundleStore) -> list[str]:
    return [path.name for path in store.folder.rglob(".*") if path.name != ".lock"]


# promote ----------------------------------------------------------------------------------------------------


def promotions(world: Registered, forked: Killer, steps: list[int], *call: str) -> int:
    """Kill the promotion of one version after the other, each at one of the steps; how many died."""
    died = 0
    for last in steps:
        before = served(world.store)
        version = world.add(f"killed at {last}").version
        died += forked.kill(last, *call, version)
        assert served(world.store) in (before, version)
        assert forked.run(*call, version) == 0, forked.log.read_text("utf-8")
        assert served(world.store) == version == world.alias
        assert not world.store.pending()
        assert leftovers(world.store) == []
    return died


def test_a_promotion_killed_at_a_step_leaves_a_champion_and_can_be_repeated(
    world: Registered, forked: Killer
) -> None:
    call = ("promote()", str(world.store.folder), world.uri)
    assert forked.run(*call, world.add("first").version) == 0
    steps = len(forked.steps)
    assert steps > 10
    # About the move itself; every step of the whole verb is killed in the trial below.
    assert promotions(world, forked, [*range(steps, 4, -2)], *call) == len(range(steps, 4, -2))


@pytest.mark.trial
@pytest.mark.timeout(1800)
def test_promote_killed_at_every_step(world: Registered, forked: Killer) -> None:
    call = (
        "promote",
        *("--project", str(world.file)),
        *("--models", str(world.models)),
        *("--tracking-uri", world.uri),
        "--version",
    )
    assert forked.run(*call, world.add("first").version) == 0
    steps = len(forked.steps)
    died = promotions(world, forked, [*range(1, steps + 2)], *call)
    print(f"promote: {died} kills at {steps} steps")  # noqa: T201 - how long the trial was
    assert died == steps


# train ------------------------------------------------------------------------------------------------------


def test_a_folder_killed_while_written_appears_whole_or_not_and_its_draft_is_swept(forked: Killer) -> None:
    content = {f"part-{number}.txt": f"text {number}\n" * 1000 for number in range(6)}
    files, into = forked.folder / "files.json", forked.folder / "folders"
    files.write_text(json.dumps(content), "utf-8")

    def written() -> dict[str, dict[str, str]]:
        return {
            folder.name: {path.name: path.read_text("utf-8") for path in folder.iterdir()}
            for folder in into.iterdir()
        }

    assert forked.run("keep()", into, files) == 0
    for last in range(2, len(forked.steps) + 1):
        shutil.rmtree(into)
        assert forked.kill(last, "keep()", into, files)
        assert "kept" not in written()
        assert forked.run("keep()", into, files) == 0, forked.log.read_text("utf-8")
        assert written() == {"kept": content}


@pytest.mark.trial
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("again", [False, True], ids=["the first training", "a retraining"])
def test_train_killed_at_steps_drawn_at_random(
    small_champion: SmallProject, forked: Killer, again: bool
) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    drawn = random.Random(seed)
    from conftest import SmallProject

    def project(name: str) -> tuple[SmallProject, list[str]]:
        """A copy to work on, with or without its champion."""
        copied = SmallProject(forked.folder / f"{name}-{'again' if again else 'first'}")
        left_out = () if again else ("models", "mlflow.db", "mlartifacts")
        shutil.copytree(
            small_champion.folder, copied.folder, ignore=shutil.ignore_patterns(*left_out, ".made")
        )
        options = ["--project", copied.file, "--models", copied.models, "--tracking-uri", copied.tracking_uri]
        return copied, [str(option) for option in options]

    def fitted(code: int) -> None:
        # The same tables give the same model, which has earned nothing against itself.
        assert code == (3 if again else 0), forked.log.read_text("utf-8")

    _, options = project("whole")
    fitted(forked.run("train", *options))
    steps = len(forked.steps)
    print(f"train: {steps} steps")  # noqa: T201
    for last in sorted(drawn.sample(range(1, steps + 1), TRAIN_KILLS)):
        copied, options = project(f"killed-{last}")
        print(f"killed at {last}")  # noqa: T201
        assert forked.kill(last, "train", *options)
        assert served(copied.store) == "1" if again else copied.store.succession().champion is None
        fitted(forked.run("train", *options))
        assert forked.run("promote", *options) == 0, forked.log.read_text("utf-8")
        served(copied.store)
        assert leftovers(copied.store) == []
        shutil.rmtree(copied.folder)
