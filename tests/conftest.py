"""Fixtures that many suites share: a small simulated project, and the same with a promoted champion.

Both are made once per test run, however many workers there are: the first worker to ask makes them under a
file lock, the others find them. They are read-only; a test that writes copies what it needs.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

# Before LightGBM and MLflow are imported by anybody.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import pytest

from canary import PERSONAL
from predictive_scoring.data.simulator import SimulationConfig, simulate
from predictive_scoring.data.sinks import write_tables
from predictive_scoring.data.sources import ProjectFile, Tables, load_project, open_tables
from predictive_scoring.keeping.bundle import read_bundle, write_bundle
from predictive_scoring.keeping.champion import BundleStore, Promotion
from predictive_scoring.scoring import Scorer, champion_scorer
from predictive_scoring.training import train

if TYPE_CHECKING:
    from predictive_scoring.keeping.registry import Version

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "data" / "projects" / "sample"
SMALL_LEADS, SMALL_SEED = 600, 7
# Capacity for some tenth of the small inflow, so that both sides of the line are populated; a coarser grid
# of cutoffs, because its reading is most of the training time.
SMALL_CHANGES = {"weekly_capacity: 10": "weekly_capacity: 2", "every: 14d": "every: 28d"}

# Warnings are errors; these come from inside MLflow 3.17 and nothing of ours can avoid them.
MLFLOW_WARNINGS = (
    "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning",  # with SQLAlchemy 2.1
    "ignore:Starting with pandas version 4.0 all arguments of all:DeprecationWarning",  # digest of a data set
    "ignore:Operation with range is deprecated:DeprecationWarning",  # names of an input example's columns
)


def pytest_configure(config: pytest.Config) -> None:
    for line in MLFLOW_WARNINGS:
        config.addinivalue_line("filterwarnings", line)


@dataclass(frozen=True)
class SmallProject:
    """A copy of the sample project with 600 leads. `models` and `tracking_uri` are beside it."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "scoring.yaml"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def store(self) -> BundleStore:
        return BundleStore(self.models / self.loaded.project.name)

    @cached_property
    def loaded(self) -> ProjectFile:
        return load_project(self.file)

    @cached_property
    def tables(self) -> Tables:
        """The stored tables, opened once per worker."""
        return open_tables(self.loaded)

    @property
    def as_of(self) -> int:
        """The instant that the tables reach to (epoch seconds)."""
        return self.tables.observed_until

    @cached_property
    def scorer(self) -> Scorer:
        """The champion's scorer; only where there is a champion."""
        return champion_scorer(self.store)


def small_project_at(folder: Path, *, leads: int = SMALL_LEADS, seed: int = SMALL_SEED) -> SmallProject:
    """Make a small simulated project in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("scoring.yaml", "playbook.yaml"):
        shutil.copy(SAMPLE / name, folder / name)
    text = (folder / "scoring.yaml").read_text("utf-8")
    for before, after in SMALL_CHANGES.items():
        if before not in text:
            raise AssertionError(f"the sample project no longer says {before!r}")
        text = text.replace(before, after)
    (folder / "scoring.yaml").write_text(text, "utf-8")
    project = SmallProject(folder)
    world = simulate(SimulationConfig(seed=seed, leads=leads))
    frames = {name: getattr(world, name) for name in ("leads", "events", "touches", "attribute_changes")}
    # Columns that the project does not read: whatever is made of this project must not know them.
    frames["leads"] = frames["leads"].assign(**PERSONAL)
    write_tables(project.loaded, frames)
    return project


def _promoted(folder: Path) -> SmallProject:
    from predictive_scoring.keeping.registry import Registry

    project = small_project_at(folder)
    trained = train(project.loaded, project.tables, project.store, project.tracking_uri)
    registry = Registry(project.tracking_uri)
    version = registry.version(project.loaded.project.name, trained.version)
    registry.promote(
        project.store, version, promoted_at="2026-07-01T00:00:00Z", override="the tests need one"
    )
    return project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first: begun last, one of them would keep one worker busy while the other has nothing to do."""
    long = ("projects", "engines", "docs", "serving")
    items.sort(key=lambda item: item.path.parent.name not in long)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this test run see."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def made_once(shared_folder: Path) -> Callable[[str, Callable[[Path], object]], Path]:
    """`made_once(name, make)`: the folder `name`, filled by `make(folder)` in whichever worker comes first."""

    def once(name: str, make: Callable[[Path], object]) -> Path:
        folder = shared_folder / name
        with (shared_folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / ".made").exists():
                # What a failed attempt left behind would only hide why it failed.
                shutil.rmtree(folder, ignore_errors=True)
                make(folder)
                (folder / ".made").touch()
        return folder

    return once


@pytest.fixture(scope="session")
def small_champion(made_once: Callable[[str, Callable[[Path], object]], Path]) -> SmallProject:
    """A small simulated project whose model is trained and promoted. Read-only."""
    return SmallProject(made_once("small-champion", _promoted))


@pytest.fixture(scope="session")
def stored_champion(
    small_champion: SmallProject, made_once: Callable[[str, Callable[[Path], object]], Path]
) -> Path:
    """A folder with a store that holds the small champion's leads, all of them scored. Read-only; tests that write
    take a copy (`stored_project.copied_store`)."""
    from stored_project import fill_store, sqlite_url

    def make(folder: Path) -> None:
        folder.mkdir()
        fill_store(small_champion, sqlite_url(folder))

    return made_once("stored-champion", make)


class Registered:
    """A copy of the small champion's store and registry that a test may change, with versions that cost no
    training: bundles that differ from the champion in their model card only."""

    def __init__(self, champion: SmallProject, folder: Path) -> None:
        import mlflow

        from predictive_scoring.keeping.registry import Registry

        self.name = champion.loaded.project.name
        self.models = folder / "models"
        self.file = champion.file
        shutil.copytree(champion.models / self.name, self.models / self.name)
        shutil.copy(champion.folder / "mlflow.db", folder / "mlflow.db")
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.store = BundleStore(self.models / self.name)
        self.registry = Registry(self.uri)
        self.client = mlflow.MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        self.run_id = self.store.champion().run_id

    def add(
        self,
        note: str,
        verdict: str = "validated",
        against: str | None = None,
        changed: Mapping[str, str] | None = None,
    ) -> Version:
        """Register one more version, judged against the present champion or the bundle `against`; `changed` files
        make it another model."""
        first = read_bundle(self.store.path(self.store.succession().line[0].bundle))
        card = f"{first.files['model_card.md']}\n{note}\n"
        facts = {key: first.manifest[key] for key in ("verdict", "reasons")}
        files = {**first.files, "model_card.md": card, **(changed or {})}
        bundle = write_bundle(self.store.bundles, files, {**facts, "run_id": self.run_id})
        made = self.client.create_model_version(
            self.name,
            str(bundle.path),
            run_id=self.run_id,
            tags={
                "bundle": bundle.identity,
                "verdict": verdict,
                "judged_against": against or f"sha256:{self.store.champion().bundle}",
            },
        )
        return self.registry.version(self.name, str(made.version))

    def promote(self, version: Version, **more: str | None) -> Promotion:
        more.setdefault("promoted_at", "2026-08-01T00:00:00Z")
        return self.registry.promote(self.store, version, **more)

    def tags(self, version: str) -> dict[str, str]:
        """What MLflow notes on a version."""
        return dict(self.client.get_model_version(self.name, version).tags)

    @property
    def alias(self) -> str:
        """The version that MLflow calls champion."""
        return str(self.client.get_model_version_by_alias(self.name, "champion").version)

    @property
    def line(self) -> list[str]:
        """The versions in the pointer, the champion last."""
        return [promotion.version for promotion in self.store.succession().line]


@pytest.fixture
def world(small_champion: SmallProject, tmp_path: Path) -> Registered:
    """A store and registry of the small champion for this test alone."""
    return Registered(small_champion, tmp_path)
