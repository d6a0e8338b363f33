"""Following the champion: a promoted model is taken up while the old one goes on, and a bad one is refused.

`promote` loads and tries a bundle in a child process before it writes the pointer. What is looked at here is that
these are still the same bytes: every file against the manifest, the manifest against the pointer, and the
golden rows against the scores they must get.
"""

from __future__ import annotations

from collections.abc import Callable

from predictive_scoring.errors import CorruptBundle, PredictiveScoringError
from predictive_scoring.keeping.bundle import read_bundle
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.keeping.golden import FILE, check_golden
from predictive_scoring.scoring import Scorer

LOOK_AGAIN = 5.0
"""Seconds after which a refused champion is tried again: its files may be on their way."""

_Mark = tuple[int, int, int]


def load_champion(store: BundleStore) -> Scorer:
    """The champion's scorer, its bundle verified and its golden rows scored.

    Raises UnknownModel, UnreadableFile and CorruptBundle."""
    promotion = store.champion()
    bundle = read_bundle(store.path(promotion.bundle))
    if not bundle.identity.removeprefix("sha256:").startswith(promotion.bundle):
        raise CorruptBundle(
            what="the folder holds another bundle than its name says",
            where=str(bundle.path),
            remedy="Restore the bundle from the MLflow run, or roll back to another version.",
        )
    scoring = bundle.scoring_model()
    check_golden(scoring, bundle.files[FILE], str(bundle.path))
    return Scorer(scoring, bundle.identity, promotion.version, bundle.manifest)


class ChampionFollower:
    """Looks at the pointer as often as it is asked; `refused` says why the newest champion is not taken up."""

    def __init__(self, store: BundleStore, load: Callable[[BundleStore], Scorer] = load_champion) -> None:
        self.store = store
        self.refused: PredictiveScoringError | None = None
        self._load = load
        self._seen: _Mark | None = None
        self._again = 0.0

    def look(self, now: float) -> Scorer | None:
        """The scorer of a champion that was not there at the last look; None: nothing new, or it is refused.

        `now` are seconds of any clock that does not go back. A pointer that is gone is nothing new."""
        mark = self._mark()
        if mark is None or (mark == self._seen and (self.refused is None or now < self._again)):
            return None
        self._seen, self._again = mark, now + LOOK_AGAIN
        try:
            scorer = self._load(self.store)
        except PredictiveScoringError as refused:
            self.refused = refused
            return None
        except (ArithmeticError, LookupError, TypeError, ValueError, OSError) as failed:
            # Whole files of another release, for example: a manifest that fits says nothing of their meaning.
            self.refused = CorruptBundle(
                what=f"the champion cannot be loaded ({type(failed).__name__})",
                where=str(self.store.pointer),
                remedy="Train and promote with this release, or roll back to another version.",
            )
            return None
        self.refused = None
        return scorer

    def _mark(self) -> _Mark | None:
        try:
            found = self.store.pointer.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
