"""The local store of a project's bundles and the pointer to the one that serves.

    <models>/<project>/bundles/<16 hex digits>/   immutable bundles
    <models>/<project>/champion.json              the champion, and those it followed

The pointer is the truth: it is replaced in one atomic step and carries its own history, so that a reader
sees either the old champion or the new one, and a rollback needs nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from predictive_scoring.errors import CorruptBundle, GateRefused, UnknownModel, UnreadableFile

POINTER = "champion.json"
PENDING = "promotion.pending.json"
VALIDATED = "validated"
NOBODY = "none"
"""What a version was judged against that was judged before there was a champion."""
LEAST_REASON = 10
"""Characters of a reason to override the gate."""


@dataclass(frozen=True)
class Promotion:
    """A bundle that was made champion: its folder name, registered version and MLflow run, when (UTC
    text), and the written reason where somebody overrode the gate."""

    bundle: str
    version: str
    run_id: str
    promoted_at: str
    override: str | None = None


@dataclass(frozen=True)
class Succession:
    """The champion (last) and the champions before it, oldest first."""

    line: tuple[Promotion, ...] = ()

    @property
    def champion(self) -> Promotion | None:
        return self.line[-1] if self.line else None


@dataclass(frozen=True)
class BundleStore:
    """The folder of one project's bundles. Only `write_pointer` changes what is served."""

    folder: Path

    @property
    def bundles(self) -> Path:
        return self.folder / "bundles"

    @property
    def pointer(self) -> Path:
        return self.folder / POINTER

    def path(self, bundle: str) -> Path:
        """Folder of a bundle by its (shortened) hash. Raises UnknownModel."""
        wanted = bundle.removeprefix("sha256:")[:16]
        found = self.bundles / wanted
        if len(wanted) < 16 or not found.is_dir():
            raise UnknownModel(
                what=f"there is no bundle {bundle!r}",
                where=str(self.bundles),
                remedy="List the bundles there, or train one.",
            )
        return found

    def succession(self) -> Succession:
        """The pointer's content; empty when nothing was promoted yet. Raises CorruptBundle."""
        try:
            document = json.loads(self.pointer.read_text("utf-8"))
            return Succession(tuple(Promotion(**entry) for entry in document["line"]))
        except FileNotFoundError:
            return Succession()
        except (OSError, ValueError, KeyError, TypeError) as refused:
            raise CorruptBundle(
                what="the champion pointer cannot be read",
                where=str(self.pointer),
                remedy="Promote a version again: predictive-scoring promote --version N.",
            ) from refused

    def succession_or_new(self) -> Succession:
        """The pointer's content, for a promotion: where it cannot be read a copy is kept beside it and a new
        line begins, which is the remedy that `succession` names."""
        try:
            return self.succession()
        except CorruptBundle:
            with contextlib.suppress(OSError):
                shutil.copyfile(self.pointer, self.pointer.with_suffix(".unreadable"))
            return Succession()

    def champion(self) -> Promotion:
        """The champion. Raises UnknownModel when nothing was promoted yet."""
        found = self.succession().champion
        if found is None:
            raise UnknownModel(
                what="no model has been promoted yet",
                where=str(self.pointer),
                remedy="Run predictive-scoring train, then predictive-scoring promote.",
            )
        return found

    def write_pointer(self, succession: Succession) -> None:
        """Replace the pointer atomically and durably. Raises UnreadableFile when the disk refuses."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _replace(self.pointer, {"line": [asdict(promotion) for promotion in succession.line]})

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One promotion at a time across processes; the lock dies with its holder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            # Only the holder of the lock writes here: a draft is what a killed one left.
            for name in (POINTER, PENDING):
                for left in self.folder.glob(f".{name}-*"):
                    left.unlink(missing_ok=True)
            yield

    def begin(self, target: Promotion | None, leaving: str | None = None) -> None:
        """Note the move under way, so that an interrupted one can be settled: whom it makes champion, and for a
        rollback the version that it takes away."""
        _replace(self.folder / PENDING, {"target": asdict(target) if target else None, "leaving": leaving})

    def pending(self) -> bool:
        """A promotion or rollback was interrupted between alias and pointer, or just after."""
        return (self.folder / PENDING).exists()

    def leaving(self) -> str | None:
        """The version that the noted rollback takes away, if it is one that can be read."""
        try:
            found = json.loads((self.folder / PENDING).read_text("utf-8"))["leaving"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if isinstance(found, str) else None

    def settle(self) -> None:
        """The promotion is complete on both sides."""
        (self.folder / PENDING).unlink(missing_ok=True)


def check_earned(
    succession: Succession, bundle: str, *, version: str, verdict: str, judged_against: str, where: str
) -> None:
    """Whether a version may become champion without an override: it was validated, against the present champion.

    `bundle` is its folder name; `judged_against` the identity of the champion that it was judged against, `none` where
    there was none, or empty where nobody noted it. The very bundle that is champion always may. Raises GateRefused."""
    champion = succession.champion
    if champion is not None and champion.bundle == bundle:
        return
    remedy = 'or promote with --override "the reason" (ten characters or more), which is recorded.'
    if verdict != VALIDATED:
        raise GateRefused(
            what=f"version {version} was {verdict or 'never judged'}",
            where=where,
            remedy=f"Train a better one, {remedy}",
        )
    # Without a champion nothing better is lost, whatever it was judged against.
    if champion is None or judged_against.removeprefix("sha256:")[:16] == champion.bundle:
        return
    raise GateRefused(
        what=f"version {version} was judged against {_named(succession, judged_against)}, "
        f"but version {champion.version} is champion now",
        where=where,
        remedy=f"Run predictive-scoring compare --version {version}, which judges it again, {remedy}",
    )


def _named(succession: Succession, judged_against: str) -> str:
    if judged_against in ("", NOBODY):
        return "no champion"
    bundle = judged_against.removeprefix("sha256:")[:16]
    versions = [past.version for past in succession.line if past.bundle == bundle]
    return (
        f"version {versions[-1]}" if versions else f"bundle {bundle}, which is not in the line of champions"
    )


def check_reason(override: str | None) -> str | None:
    """The written reason without blanks around it, None where none was given. Raises GateRefused for one too short
    to tell anybody why."""
    if override is None:
        return None
    reason = override.strip()
    if len(reason) < LEAST_REASON:
        raise GateRefused(
            what=f"the reason {reason!r} is shorter than {LEAST_REASON} characters",
            where="--override",
            remedy="Write what a reader has to know a year from now: who decided, and why.",
        )
    return reason


def succeeded_by(succession: Succession, promotion: Promotion) -> Succession:
    """The line with a new champion; promoting the champion again only renews its entry, whose reason stays."""
    line = succession.line
    if line and line[-1].bundle == promotion.bundle:
        renewed = replace(promotion, override=promotion.override or line[-1].override)
        return replace(succession, line=(*line[:-1], renewed))
    return Succession((*line, promotion))


def rolled_back(succession: Succession, where: str) -> Succession:
    """The line without its champion. Raises UnknownModel when there is none before it."""
    if len(succession.line) < 2:
        raise UnknownModel(
            what="there is no earlier champion to go back to",
            where=where,
            remedy="Promote another version instead: predictive-scoring promote --version N.",
        )
    return Succession(succession.line[:-1])


def _replace(path: Path, document: dict[str, Any]) -> None:
    """Raises UnreadableFile when the disk refuses; what is there then stays."""
    try:
        handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(document, stream, indent=1)
                stream.write("\n")
                stream.flush()
                os.fsync(stream.fileno())
            Path(draft).chmod(0o644)
            Path(draft).replace(path)
        except OSError:
            Path(draft).unlink(missing_ok=True)
            raise
    except OSError as refused:
        raise UnreadableFile(
            what=f"cannot write the file: {refused.strerror or refused}",
            where=str(path),
            remedy="Free or unlock the disk, then do the same again.",
        ) from refused
