"""A champion whose files were damaged: refused by name, whatever happened to which file, and never a crash."""

from __future__ import annotations

import json
import random
import secrets
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clients import shifted_files
from predictive_scoring.errors import PredictiveScoringError
from predictive_scoring.keeping.bundle import MANIFEST, SEAL, read_bundle, write_bundle
from predictive_scoring.keeping.champion import Succession
from predictive_scoring.live.champion import ChampionFollower, load_champion
from worker_worlds import champion_copy

if TYPE_CHECKING:
    from conftest import SmallProject
    from predictive_scoring.keeping.champion import BundleStore

Damage = Callable[[Path, Path, random.Random], object]


def _cut(path: Path, _: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(1, len(content))])


def _flip(path: Path, _: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def _insert(path: Path, _: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    # Beside another digit, where the document stays one that can be read.
    places = [place for place, byte in enumerate(content) if chr(byte).isdigit()] or [0]
    place = chance.choice(places)
    path.write_bytes(content[:place] + b"7" + content[place:])


DAMAGES: dict[str, Damage] = {
    "cut off": _cut,
    "a flipped bit": _flip,
    "an inserted digit": _insert,
    "emptied": lambda path, other, chance: path.write_bytes(b""),
    "deleted": lambda path, other, chance: path.unlink(),
    "another bundle's": lambda path, other, chance: shutil.copy(other, path),
}


@pytest.fixture
def store(small_champion: SmallProject, tmp_path: Path) -> BundleStore:
    """The champion's store, with another bundle whose every file is another one."""
    return champion_copy(small_champion, tmp_path / "models")


@pytest.fixture
def other(store: BundleStore, tmp_path: Path) -> Path:
    first = read_bundle(store.path(store.champion().bundle))
    changed = {
        name: text + "\n" if text == first.files[name] else text
        for name, text in shifted_files(first, 0.7).items()
    }
    return write_bundle(tmp_path / "others", changed, {}).path


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_by_name_and_the_champion_before_goes_on(
    store: BundleStore, other: Path, damage: str
) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    chance = random.Random(seed)
    bundle = store.path(store.champion().bundle)
    served = load_champion(store).reference
    # The manifest last: where only its seal's name is hit, it stays as it is.
    names = sorted((path.name for path in bundle.iterdir()), key=lambda name: name == MANIFEST)
    assert names[-1] == MANIFEST
    assert len(names) > 10
    for name in names:
        content = (bundle / name).read_bytes()
        DAMAGES[damage](bundle / name, other / name, chance)
        if name == MANIFEST and _is_only_unsealed(content, bundle / name):
            continue
        with pytest.raises(PredictiveScoringError) as refused:
            load_champion(store)
        assert refused.value.name in ("CorruptBundle", "UnreadableFile"), name
        assert refused.value.name == "CorruptBundle" or name == MANIFEST, name
        assert str(bundle) in refused.value.where, name
        follower = ChampionFollower(store)
        assert follower.look(0.0) is None
        assert follower.refused is not None
        (bundle / name).write_bytes(content)
    assert load_champion(store).reference == served


def _is_only_unsealed(before: bytes, path: Path) -> bool:
    """Whether nothing is damaged but the name of the manifest's seal: older manifests have none."""
    try:
        now = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    facts = {key: value for key, value in json.loads(before).items() if key != SEAL}
    return SEAL not in now and facts.items() <= now.items()


def test_files_that_fit_each_other_but_were_never_a_model_are_refused_by_name(store: BundleStore) -> None:
    """A manifest that was written anew around a damaged file vouches for it; the golden rows do not."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    chance = random.Random(seed)
    champion = store.champion()
    first = read_bundle(store.path(champion.bundle))
    for name in ("model.json", "features.json", "grading.json", "project.json", "golden.jsonl"):
        text = first.files[name]
        cut = {**first.files, name: text[: chance.randrange(1, len(text) - 1)]}
        made = write_bundle(store.bundles, cut, {})
        store.write_pointer(_pointing_to(store, made.path.name))
        follower = ChampionFollower(store)
        assert follower.look(0.0) is None, name
        assert follower.refused is not None
        assert follower.refused.name == "CorruptBundle"
        # When the champion is one again, nothing needs to be restarted.
        store.write_pointer(_pointing_to(store, champion.bundle))
        assert follower.look(1.0) is not None, name


def _pointing_to(store: BundleStore, bundle: str) -> Succession:
    return Succession((replace(store.succession().line[-1], bundle=bundle),))
