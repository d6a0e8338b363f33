"""Models swapped under clients: every request is answered, each by one model, and soon by the new one."""

from __future__ import annotations

import random
import secrets
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

import pytest

from clients import Answer, Caller, Running, Step, crowd, probabilities, shifted_files
from predictive_scoring.keeping.bundle import read_bundle
from predictive_scoring.keeping.champion import succeeded_by
from predictive_scoring.timeline import format_instant
from services import until

if TYPE_CHECKING:
    from conftest import SmallProject
    from predictive_scoring.keeping.champion import Promotion
    from predictive_scoring.keeping.registry import Version

LEADS = 5
WITHIN = 1.0
"""Seconds from the pointer's replacement until the new champion answers."""


@dataclass(frozen=True)
class Contest:
    """Versions to swap, what each champion says of some leads at an instant, and these leads."""

    versions: Sequence[Version]
    expected: dict[str, dict[str, float]]
    leads: tuple[str, ...]
    as_of: str

    def ask(self, caller: Caller, number: int) -> Answer:
        """A client's next request: some leads together, or one with everything that is known of it."""
        if number % 5 == 4:
            return caller.ask("GET", f"/v1/leads/{self.leads[number % LEADS]}")
        body = {"leads": [{"lead_id": one} for one in self.leads], "as_of": self.as_of}
        return caller.ask("POST", "/v1/score", body)

    def model_of(self, answer: Answer) -> str:
        """The bundle that gave an answer. Every part of it must be this one's."""
        assert answer.status == 200, (answer.asked, answer.status, answer.body[:300])
        scores = answer.document["scores"] if answer.asked == "/v1/score" else [answer.document]
        (bundle,) = {score["model"]["bundle"] for score in scores}
        if answer.asked == "/v1/score":
            assert [score["lead_id"] for score in scores] == list(self.leads)
            for score in scores:
                assert score["probability"] == pytest.approx(
                    self.expected[bundle][score["lead_id"]], abs=1e-9
                )
        return str(bundle)


@pytest.fixture(scope="module")
def contest(running: Running, small_champion: SmallProject) -> Contest:
    world, as_of = running.world, small_champion.as_of
    ids = sorted(str(one) for one in small_champion.tables.leads["lead_id"])[:50]
    leads = list(small_champion.tables.stored_leads(ids).values())
    first = read_bundle(world.store.path(world.store.champion().bundle))
    versions = [world.add(f"shifted {shift}", changed=shifted_files(first, shift)) for shift in (0.4, -0.4)]
    bundles = [first, *(read_bundle(world.store.path(version.bundle)) for version in versions)]
    expected = {bundle.identity: probabilities(bundle, leads, as_of) for bundle in bundles}
    scored = sorted(expected[first.identity])[:LEADS]
    for lead_id in scored:
        assert len({found[lead_id] for found in expected.values()}) == 3
    return Contest(versions, expected, tuple(scored), format_instant(as_of))


@dataclass(frozen=True)
class Swap:
    """A champion, when its pointer was there, and when it first answered (`time.time`)."""

    bundle: str
    replaced: float
    answered: float


def _swap(running: Running, contest: Contest, chance: random.Random) -> Swap:
    """Promote another version, or roll back, and wait until the new champion answers."""
    world = running.world
    line = world.store.succession().line
    if len(line) > 1 and chance.random() < 0.5:
        promotion = world.registry.rollback(world.store, world.name)
    else:
        others = [one for one in contest.versions if one.version != line[-1].version]
        promotion = world.promote(chance.choice(others), override="a swap under load")
    return _awaited(running, promotion)


def _awaited(running: Running, promotion: Promotion) -> Swap:
    replaced = running.world.store.pointer.stat().st_mtime
    with running.caller() as caller:
        while promotion.bundle not in (served := caller.ask("GET", "/v1/model").document["bundle"]):
            assert time.time() - replaced < 30, "the new champion does not answer"
            time.sleep(0.02)
    return Swap(served, replaced, time.time())


def _judged(contest: Contest, answers: Sequence[Answer], swaps: Sequence[Swap], within: float) -> None:
    """Every answer is one model's, and of a model that was champion at most `within` seconds before it was asked."""
    for answer in answers:
        bundle = contest.model_of(answer)
        # From the newest champion that had had its time when the request was sent, to any promoted since.
        settled = max(
            (number for number, swap in enumerate(swaps) if swap.replaced + within < answer.sent), default=0
        )
        assert bundle in {swap.bundle for swap in swaps[settled:] if swap.replaced <= answer.done}, (
            answer.asked
        )


def _start(running: Running) -> Swap:
    """The champion as the first entry of a list of swaps."""
    return replace(_awaited(running, running.world.store.champion()), replaced=0.0)


@pytest.mark.slow
def test_swaps_under_clients_lose_and_mix_no_answer(running: Running, contest: Contest) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    chance = random.Random(seed)
    step: Step = contest.ask
    swaps = [_start(running)]
    with crowd(running.service.port, running.keys[:4], step) as clients:
        for _ in range(10):
            swaps.append(_swap(running, contest, chance))
            clients.wait_for(10)
    waited = [swap.answered - swap.replaced for swap in swaps[1:]]
    # This machine does other things meanwhile; the trial holds each one to it.
    assert median(waited) < WITHIN, waited
    _judged(contest, clients.answers, swaps, within=max(waited))


@pytest.mark.slow
def test_a_damaged_or_missing_champion_is_refused_while_the_one_before_goes_on(
    running: Running, contest: Contest
) -> None:
    world = running.world
    before = _start(running)
    good = world.store.succession()
    first = read_bundle(world.store.path(good.line[-1].bundle))
    version = world.add("damaged", changed=shifted_files(first, 0.9))
    bundle = world.store.path(version.bundle)
    whole = (bundle / "model.txt").read_bytes()
    (bundle / "model.txt").write_bytes(whole[: len(whole) // 2])
    with crowd(running.service.port, running.keys[:4], contest.ask) as clients:
        # `promote` tries a bundle first: this one is damaged between the trial and the pointer.
        world.store.write_pointer(succeeded_by(good, replace(good.line[-1], bundle=bundle.name)))
        assert until(lambda: running.numbers()["predictive_scoring_champion_refused"] == 1, 20)
        clients.wait_for(10)
        shutil.rmtree(bundle)
        world.store.pointer.touch()
        clients.wait_for(10)
        assert running.service.is_ready()
        with running.caller() as caller:
            assert caller.ask("GET", "/v1/model").document["bundle"] == before.bundle
        world.store.write_pointer(good)
        assert until(lambda: running.numbers()["predictive_scoring_champion_refused"] == 0, 20)
    assert {contest.model_of(answer) for answer in clients.answers} == {before.bundle}
    said = [line for line in running.service.lines if "is not served" in line["event"]]
    assert any("model.txt" in line["event"] for line in said)


@pytest.mark.trial
@pytest.mark.timeout(1800)
def test_two_hundred_swaps_under_eight_clients(running: Running, contest: Contest) -> None:
    seed = secrets.randbits(32)
    chance = random.Random(seed)
    swaps = [_start(running)]
    with crowd(running.service.port, running.keys[:8], contest.ask) as clients:
        for _ in range(200):
            swaps.append(_swap(running, contest, chance))
            time.sleep(chance.uniform(0.0, 1.5))
    waited = sorted(swap.answered - swap.replaced for swap in swaps[1:])
    print(  # noqa: T201 - the finding
        f"seed {seed}: {len(clients.answers)} answers; the new champion answered after {median(waited):.2f} s, "
        f"{waited[-3]:.2f} s in 99 of 100, {waited[-1]:.2f} s at most"
    )
    _judged(contest, clients.answers, swaps, waited[-1])
    # Clients, service and trainers share two processors here, and one swap in a hundred meets all of them at work.
    assert waited[-3] < WITHIN
