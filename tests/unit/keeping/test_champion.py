"""Champion pointer and MLflow alias move together, one promotion at a time, whatever is interrupted."""

import json
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest

from predictive_scoring.errors import CorruptBundle, GateRefused, UnknownModel
from predictive_scoring.keeping.bundle import read_bundle, write_bundle
from predictive_scoring.keeping.champion import (
    BundleStore,
    Promotion,
    Succession,
    rolled_back,
    succeeded_by,
)
from predictive_scoring.keeping.registry import CHAMPION
from predictive_scoring.scoring import champion_scorer

NAME = "sample"  # the small champion's project
FIRST = Promotion("a" * 16, "1", "run-1", "2026-01-01T00:00:00Z")
SECOND = Promotion("b" * 16, "2", "run-2", "2026-02-01T00:00:00Z")


# The line of champions, as values ---------------------------------------------------------------------------


def test_a_promotion_is_appended_and_a_rollback_takes_it_off_again():
    line = succeeded_by(succeeded_by(Succession(), FIRST), SECOND)
    assert line.champion == SECOND
    assert rolled_back(line, "here") == Succession((FIRST,))


def test_promoting_the_champion_again_only_renews_its_entry():
    later = replace(SECOND, promoted_at="2026-03-01T00:00:00Z", version="7")
    line = succeeded_by(Succession((FIRST, SECOND)), later)
    assert line == Succession((FIRST, later))


def test_an_earlier_champion_may_return_as_a_new_entry():
    line = succeeded_by(Succession((FIRST, SECOND)), FIRST)
    assert [promotion.version for promotion in line.line] == ["1", "2", "1"]


@pytest.mark.parametrize("line", [(), (FIRST,)], ids=["no champion", "only one"])
def test_there_is_nothing_to_roll_back_to_before_the_first_champion(line):
    with pytest.raises(UnknownModel, match="no earlier champion"):
        rolled_back(Succession(line), "here")


# The pointer on disk ----------------------------------------------------------------------------------------


def test_the_pointer_comes_back_as_it_was_written(tmp_path):
    store = BundleStore(tmp_path / "new")
    assert store.succession() == Succession()
    with pytest.raises(UnknownModel, match="no model has been promoted"):
        store.champion()
    line = Succession((FIRST, replace(SECOND, override="pilot")))
    store.write_pointer(line)
    assert store.succession() == line
    assert [path.name for path in store.folder.iterdir()] == ["champion.json"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"{}", b'{"line": [{"bundle": "a"}]}', b'{"line": 3}', b"\xff\xfe\x00"],
)
def test_a_pointer_that_cannot_be_read_is_named_and_never_taken_for_no_champion(tmp_path, content):
    store = BundleStore(tmp_path)
    store.pointer.write_bytes(content)
    with pytest.raises(CorruptBundle) as refused:
        champion_scorer(store)
    assert refused.value.where == str(store.pointer)
    assert "promote" in refused.value.remedy


# With MLflow ------------------------------------------------------------------------------------------------


def test_promote_and_rollback_move_alias_and_pointer_together(world):
    assert (world.alias, world.line) == ("1", ["1"])
    second = world.add("second")
    told = world.promote(second)
    assert (world.alias, world.line) == ("2", ["1", "2"])
    assert told == world.store.champion()
    assert champion_scorer(world.store).identity == second.bundle
    assert world.registry.rollback(world.store, NAME).version == "1"
    assert (world.alias, world.line) == ("1", ["1"])
    with pytest.raises(UnknownModel):
        world.registry.rollback(world.store, NAME)
    assert (world.alias, world.line) == ("1", ["1"])
    assert not world.store.pending()


def test_promoting_the_champion_again_renews_its_date_and_nothing_else(world):
    world.promote(world.registry.version(NAME, "1"), promoted_at="2027-01-01T00:00:00Z")
    assert (world.alias, world.line) == ("1", ["1"])
    assert world.store.champion().promoted_at == "2027-01-01T00:00:00Z"


@pytest.mark.parametrize("override", [None, "", "   ", "because", "  123456789  "])
@pytest.mark.parametrize("verdict", ["rejected", "", "rolled back"])
def test_a_version_that_was_not_validated_is_refused_and_nothing_moves(world, verdict, override):
    rejected = world.add("rejected", verdict)
    with pytest.raises(GateRefused) as refused:
        world.promote(rejected, override=override)
    assert refused.value.exit_code == 3
    assert (world.alias, world.line) == ("1", ["1"])


def test_a_written_reason_overrides_the_verdict_and_is_kept_with_the_promotion(world):
    world.promote(world.add("rejected", "rejected"), override="pilot, ticket 12")
    assert (world.alias, world.line) == ("2", ["1", "2"])
    assert world.store.champion().override == "pilot, ticket 12"
    assert world.tags("2")["override"] == "pilot, ticket 12"
    # Promoting it again without a reason does not wipe out the one that was written.
    world.promote(world.registry.version(NAME, "2"), promoted_at="2027-01-01T00:00:00Z")
    assert world.store.champion().override == "pilot, ticket 12"


def test_a_verdict_holds_only_against_the_champion_it_was_given_on(world):
    second, third = world.add("second"), world.add("third")
    world.promote(second)
    with pytest.raises(
        GateRefused, match="judged against version 1, but version 2 is champion now"
    ) as refused:
        world.promote(third)
    assert "compare --version 3" in refused.value.remedy
    assert (world.alias, world.line) == ("2", ["1", "2"])
    world.registry.judged(third, "validated", second.bundle, "the newest rows")
    world.promote(third)
    assert (world.alias, world.line) == ("3", ["1", "2", "3"])
    assert world.tags("3")["judged_on"] == "the newest rows"


def test_a_new_verdict_replaces_the_old_one_for_better_or_worse(world):
    second = world.add("second")
    champion = f"sha256:{world.store.champion().bundle}"
    world.registry.judged(second, "rejected", champion, "rows")
    with pytest.raises(GateRefused, match="version 2 was rejected"):
        world.promote(second)
    world.registry.judged(second, "validated", champion, "rows")
    assert world.promote(second).version == "2"


@pytest.mark.parametrize("against", ["none", "sha256:" + "0" * 64])
def test_a_version_judged_against_nobody_or_a_stranger_is_refused_once_there_is_a_champion(world, against):
    with pytest.raises(GateRefused, match="is champion now"):
        world.promote(world.add("second", against=against))
    assert (world.alias, world.line) == ("1", ["1"])


def test_the_very_bundle_that_is_champion_may_be_promoted_whatever_its_new_verdict(world):
    again = world.add("", "rejected")
    files = read_bundle(world.store.path(world.store.champion().bundle)).files
    same = write_bundle(world.store.bundles, files, {})
    world.client.set_model_version_tag(NAME, again.version, "bundle", same.identity)
    world.promote(world.registry.version(NAME, again.version))
    assert (world.alias, world.line) == ("2", ["2"])
    assert champion_scorer(world.store).identity == same.identity


def test_a_version_that_was_rolled_back_must_be_judged_anew(world):
    second = world.add("second")
    world.promote(second)
    world.registry.rollback(world.store, NAME)
    with pytest.raises(GateRefused, match="version 2 was rolled back"):
        world.promote(second)
    # What comes later is judged against the champion that came back.
    assert world.promote(world.add("third")).version == "3"
    assert (world.alias, world.line) == ("3", ["1", "3"])


def test_drafts_of_killed_processes_are_swept(world):
    for name in (".champion.json-abc", ".promotion.pending.json-xyz"):
        (world.store.folder / name).write_text("{", "utf-8")
    world.promote(world.add("second"))
    assert not [path.name for path in world.store.folder.glob(".*-*")]


def test_a_version_whose_bundle_is_gone_cannot_be_promoted(world):
    second = world.add("second")
    shutil.rmtree(world.store.path(second.bundle))
    with pytest.raises(UnknownModel):
        world.promote(second)
    assert (world.alias, world.line) == ("1", ["1"])


def test_an_unknown_version_is_refused_with_the_list_of_those_that_exist(world):
    world.add("second")
    with pytest.raises(UnknownModel, match="Versions: 1, 2"):
        world.registry.version(NAME, "9")
    assert world.registry.version(NAME).version == "2"


@pytest.mark.parametrize("move", ["promote", "rollback", "refused rollback"])
def test_a_promotion_interrupted_between_alias_and_pointer_is_settled_by_the_next_move(world, move):
    second, third = world.add("second"), world.add("third")
    if move == "rollback":
        world.promote(second)
    served = world.line
    # As a crash leaves it: the note is written and the alias has moved, but the pointer has not.
    world.store.begin(Promotion(third.bundle[7:23], third.version, third.run_id, "2026-08-01T00:00:00Z"))
    world.client.set_registered_model_alias(NAME, CHAMPION, third.version)
    assert champion_scorer(world.store).version == served[-1]
    if move == "promote":
        world.promote(second)
    elif move == "rollback":
        world.registry.rollback(world.store, NAME)
    else:
        with pytest.raises(UnknownModel):
            world.registry.rollback(world.store, NAME)
    expected = {"promote": ["1", "2"], "rollback": ["1"], "refused rollback": ["1"]}[move]
    assert (world.alias, world.line) == (expected[-1], expected)
    assert not world.store.pending()


def test_promoting_mends_a_pointer_that_cannot_be_read_as_its_error_promises(world):
    second = world.add("second")
    damage = '{"line": [{"bundle": "'
    world.store.pointer.write_text(damage, "utf-8")
    with pytest.raises(CorruptBundle):
        world.registry.rollback(world.store, NAME)
    world.promote(second)
    assert (world.alias, world.line) == ("2", ["2"])
    assert world.store.pointer.with_suffix(".unreadable").read_text("utf-8") == damage


PROMOTER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from predictive_scoring.errors import GateRefused
    from predictive_scoring.keeping.champion import BundleStore
    from predictive_scoring.keeping.registry import Registry

    folder, uri, version = sys.argv[1:]
    registry, store = Registry(uri), BundleStore(Path(folder))
    chosen = registry.version("sample", version)
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        registry.promote(store, chosen, promoted_at="2026-08-01T00:00:00Z")
    except GateRefused as refused:
        sys.exit(refused.exit_code)
    """
)


def test_of_two_promotions_at_once_one_wins_and_the_other_is_refused(world):
    world.add("second"), world.add("third")
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PROMOTER, str(world.store.folder), world.uri, version],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for version in ("2", "3")
    ]
    # Neither starts before both are ready, so that they do meet.
    for child in children:
        assert child.stdout.readline().strip() == "ready"
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=120)
    codes = {version: child.returncode for version, child in zip(("2", "3"), children, strict=True)}
    assert sorted(codes.values()) == [0, 3]
    winner = min(codes, key=codes.get)
    assert (world.alias, world.line) == (winner, ["1", winner])
    assert not world.store.pending()
    json.loads(world.store.pointer.read_text("utf-8"))
    assert not [path.name for path in world.store.folder.iterdir() if path.name.startswith(".champion")]
