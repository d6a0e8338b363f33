"""Following the champion: a good one is taken up, a bad one is refused, and a mended one is taken up later."""

from __future__ import annotations

import pytest

from predictive_scoring.live.champion import LOOK_AGAIN, ChampionFollower


def test_a_promotion_is_seen_at_the_next_look_and_only_once(world):
    follower = ChampionFollower(world.store)
    first = follower.look(0.0)
    assert first.reference.version == world.line[-1]
    assert follower.look(0.1) is None
    second = world.add("another")
    world.promote(second, override="the test needs another one")
    found = follower.look(0.2)
    assert (found.reference.version, found.identity) == (second.version, second.bundle)
    assert follower.look(0.3) is None


@pytest.mark.parametrize("harm", ["gone", "changed", "exchanged"])
def test_a_bad_bundle_is_refused_until_it_is_mended(world, harm):
    follower = ChampionFollower(world.store)
    good = follower.look(0.0)
    second = world.add("another")
    folder = world.store.path(second.bundle)
    kept = folder.with_name("kept")
    world.promote(second, override="the test needs another one")
    folder.rename(kept)
    if harm != "gone":
        source = kept if harm == "changed" else world.store.path(good.identity)
        folder.mkdir()
        for file in source.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    if harm == "changed":
        (folder / "model.txt").write_bytes((folder / "model.txt").read_bytes()[:-40])
    assert follower.look(1.0) is None
    assert follower.refused.name in ("UnknownModel", "CorruptBundle")
    # Files may be on their way; but not looked at with every request.
    if folder.exists():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    kept.rename(folder)
    assert follower.look(1.1) is None
    assert follower.look(1.1 + LOOK_AGAIN).identity == second.bundle
    assert follower.refused is None


def test_a_pointer_that_cannot_be_read_changes_nothing(world):
    follower = ChampionFollower(world.store)
    follower.look(0.0)
    text = world.store.pointer.read_text("utf-8")
    world.store.pointer.write_text("{", "utf-8")
    assert follower.look(1.0) is None
    assert follower.refused.name == "CorruptBundle"
    world.store.pointer.unlink()
    assert follower.look(20.0) is None
    world.store.pointer.write_text(text, "utf-8")
    assert follower.look(40.0) is not None
