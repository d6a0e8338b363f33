"""A bundle: one ScoringModel as an immutable directory of readable files, none of them a pickle.

    MANIFEST.json     format, SHA-256 of every other file, versions, data hash, run id
    project.json      the project file as it was at training
    features.json     the feature views          model.json, model.txt   linear part, vocabularies,
                                                 calibration; LightGBM text (empty without trees)
    grading.json      reference.json             stages.json             playbook.json (if any)
    metrics.json      golden.jsonl               model_card.md               curve.json (if any)

The bundle's identity is the SHA-256 over the hashes of its files, so equal content has equal identity.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from predictive_scoring.errors import CorruptBundle, UnreadableFile
from predictive_scoring.features.definitions import (
    Feature,
    FeatureView,
    features_of,
    fingerprint,
    from_document,
    to_document,
)
from predictive_scoring.insight.stage import StageParameters
from predictive_scoring.keeping.drafts import draft_folder
from predictive_scoring.model.calibrated import CalibratedModel
from predictive_scoring.model.curve import ConversionCurve
from predictive_scoring.model.grading import Grading
from predictive_scoring.model.reference import Reference
from predictive_scoring.nurture.playbook import Playbook
from predictive_scoring.settings import Project

FORMAT = 1
MANIFEST = "MANIFEST.json"
SEAL = "seal"
"""The manifest's key for the hash of its other ones; bundles of the release before have none."""
VERSIONED = ("predictive-scoring", "lightgbm", "scikit-learn", "numpy", "pandas", "scipy")


@dataclass(frozen=True)
class ScoringModel:
    """Everything that turns a lead's history into a Score, and nothing else."""

    project: Project
    views: tuple[FeatureView, ...]
    model: CalibratedModel
    grading: Grading
    reference: Reference
    stages: StageParameters
    playbook: Playbook | None
    metrics: Mapping[str, Any]
    curve: ConversionCurve | None = None
    """P(converts) by horizon; None for snapshots, bundles of the release before, and before any conversion."""

    @property
    def is_points_card(self) -> bool:
        """Whether no outcome has tested it: a hand-written card with a fitted level."""
        evidence = self.model.evidence
        return evidence is not None and evidence.basis == "points_card"

    @property
    def features(self) -> tuple[Feature, ...]:
        return features_of(self.views)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.views)

    def to_files(self) -> dict[str, str]:
        """File name -> text, without manifest and golden rows."""
        files = {
            "project.json": _json(self.project.model_dump(mode="json")),
            "features.json": _json(to_document(self.views)),
            "model.json": _json(self.model.to_document()),
            "model.txt": self.model.booster_text,
            "grading.json": _json(self.grading.to_document()),
            "reference.json": _json(self.reference.to_document()),
            "stages.json": _json(self.stages.model_dump(mode="json")),
            "metrics.json": _json(self.metrics),
        }
        if self.playbook is not None:
            files["playbook.json"] = _json(self.playbook.to_document())
        if self.curve is not None:
            files["curve.json"] = _json(self.curve.to_document())
        return files

    @classmethod
    def from_files(cls, files: Mapping[str, str]) -> Self:
        """Inverse of `to_files`."""
        documents = {name: json.loads(text) for name, text in files.items() if name.endswith(".json")}
        return cls(
            project=Project.model_validate(documents["project.json"]),
            views=from_document(documents["features.json"]),
            model=CalibratedModel.from_document(documents["model.json"], files["model.txt"]),
            grading=Grading.from_document(documents["grading.json"]),
            reference=Reference.from_document(documents["reference.json"]),
            stages=StageParameters.model_validate(documents["stages.json"]),
            playbook=Playbook.from_document(documents["playbook.json"]) if "playbook.json" in files else None,
            metrics=documents["metrics.json"],
            curve=ConversionCurve.from_document(documents["curve.json"]) if "curve.json" in files else None,
        )


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on disk."""

    path: Path
    manifest: Mapping[str, Any]
    files: Mapping[str, str]

    @property
    def identity(self) -> str:
        """`sha256:` and 64 hex digits."""
        return f"sha256:{self.manifest['bundle']}"

    def scoring_model(self) -> ScoringModel:
        return ScoringModel.from_files(self.files)


def _json(document: object) -> str:
    return json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def identity_of(files: Mapping[str, str]) -> str:
    """SHA-256 (hex) over the names and hashes of the files."""
    return _digest(json.dumps({name: _digest(text) for name, text in files.items()}, sort_keys=True))


def seal_of(manifest: Mapping[str, Any]) -> str:
    """SHA-256 (hex) over everything in a manifest but its seal: the verdict, for example, is in no other file."""
    return _digest(json.dumps({key: value for key, value in manifest.items() if key != SEAL}, sort_keys=True))


def write_bundle(into: Path, files: Mapping[str, str], facts: Mapping[str, Any]) -> Bundle:
    """Write `files` and the manifest as the directory `into/<first 16 digits of the identity>`.

    The directory appears whole or not at all; writing the same content again is no change. `facts` are
    added to the manifest (data hash, run id, fingerprint). Raises UnreadableFile when the disk refuses."""
    identity = identity_of(files)
    manifest = {
        "format": FORMAT,
        "bundle": identity,
        "files": {name: _digest(text) for name, text in sorted(files.items())},
        "code": code_hash(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in VERSIONED}},
        **facts,
    }
    manifest[SEAL] = seal_of(manifest)
    target = into / identity[:16]
    if not target.exists():
        try:
            with draft_folder(into) as draft:
                for name, text in {**files, MANIFEST: _json(manifest)}.items():
                    _write_synced(draft / name, text)
                # A private folder at first; a service under another account has to read the bundle.
                draft.chmod(0o755)
                draft.replace(target)
        except OSError as refused:
            # Another process may have put the same content there first, which is just as well.
            if not target.exists():
                raise UnreadableFile(
                    what=f"cannot write the bundle: {refused.strerror or refused}",
                    where=str(target),
                    remedy="Free or unlock the disk, then do the same again.",
                ) from refused
    return read_bundle(target)


@cache
def code_hash() -> str:
    """SHA-256 (hex) over this package's sources: the code that trained, whatever its version is called."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".yaml") and "_serving" not in path.relative_to(root).parts:
            digest.update(f"{path.relative_to(root).as_posix()}\n".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def read_bundle(path: Path) -> Bundle:
    """The bundle in a directory, every file checked against the manifest before anything parses it (a
    truncated LightGBM text crashes the process). Raises UnreadableFile and CorruptBundle."""
    try:
        manifest = json.loads((path / MANIFEST).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as refused:
        raise UnreadableFile(
            what="the bundle's manifest cannot be read",
            where=str(path / MANIFEST),
            remedy="Name a bundle folder that `train` wrote, or restore it from the MLflow run.",
        ) from refused
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files", {}), dict):
        raise CorruptBundle(
            what="the manifest is not one that `train` wrote",
            where=str(path / MANIFEST),
            remedy="Restore the bundle from the MLflow run, or roll back to another version.",
        )
    if manifest.get("format") != FORMAT:
        raise CorruptBundle(
            what=f"bundle format {manifest.get('format')!r} is not format {FORMAT}",
            where=str(path),
            remedy="Train again with this version of predictive_scoring.",
        )
    files: dict[str, str] = {}
    for name, expected in manifest.get("files", {}).items():
        try:
            text = (path / name).read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            text = ""
        if _digest(text) != expected:
            raise CorruptBundle(
                what=f"the file {name} is not the one the manifest describes",
                where=str(path / name),
                remedy="Restore the bundle from the MLflow run, or roll back to another version.",
            )
        files[name] = text
    if manifest.get("bundle") != identity_of(files) or manifest.get(SEAL, seal_of(manifest)) != seal_of(
        manifest
    ):
        raise CorruptBundle(
            what="the manifest's own hash does not fit its content",
            where=str(path / MANIFEST),
            remedy="Restore the bundle from the MLflow run, or roll back to another version.",
        )
    return Bundle(path, manifest, files)


def try_bundle(path: Path, *, timeout: float = 120.0) -> None:
    """Load the bundle and score its golden rows in a child process, so that a file that would crash
    LightGBM crashes the child. Raises CorruptBundle with the child's last words."""
    try:
        child = subprocess.run(
            [sys.executable, "-m", "predictive_scoring.keeping.golden", str(path)],
            capture_output=True,
            # A dying LightGBM prints whatever lay in memory.
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as refused:
        raise CorruptBundle(
            what=f"the bundle's trial load did not end within {timeout:g} seconds",
            where=str(path),
            remedy="Do not serve it; train again, or roll back to another version.",
        ) from refused
    if child.returncode != 0:
        printed = (child.stderr.strip() or child.stdout.strip()).splitlines()
        words = ["".join(letter for letter in line if letter.isprintable())[:300] for line in printed]
        raise CorruptBundle(
            what=f"the bundle failed its trial load (exit {child.returncode}): {words[-1] if words else 'no message'}",
            where=str(path),
            remedy="Do not serve it; train again, or roll back to another version.",
        )
