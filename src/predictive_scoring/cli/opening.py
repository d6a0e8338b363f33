"""What verbs that use the champion begin with: project file, champion and tables, opened together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from predictive_scoring.cli.output import steps
from predictive_scoring.data.engines import Engine
from predictive_scoring.data.sources import ProjectFile, Tables, load_project, open_tables
from predictive_scoring.errors import UnknownModel
from predictive_scoring.keeping.bundle import read_bundle
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.scoring import Scorer, champion_scorer
from predictive_scoring.timeline import parse_instant


@contextmanager
def champion_and_tables(
    project: Path,
    as_of: str | None,
    models: Path,
    engine: Callable[[], Engine],
    shadow: tuple[str, str] | None = None,
) -> Iterator[tuple[ProjectFile, Scorer, Tables, int]]:
    """Project file, its champion's scorer, its tables on a running engine, and the instant meant by `as_of`
    (epoch seconds; default: as far as the log is complete).

    `shadow` names another version, and the address of the registry that knows it: that one scores instead.

    Raises UnknownModel without a fitting champion, and the errors of reading files."""
    loaded = load_project(project)
    store = BundleStore(models / loaded.project.name)
    scorer = champion_scorer(store) if shadow is None else _of_version(store, loaded.project.name, *shadow)
    if scorer.scoring.project.is_snapshot != loaded.project.is_snapshot:
        raise UnknownModel(
            what="the model was trained on another kind of source (snapshot or event log)",
            where=str(project),
            remedy="Train and promote a model for this project file.",
        )
    with ExitStack() as open_until_answered:
        with steps("reading the tables"):
            tables = open_tables(loaded, open_until_answered.enter_context(engine()))
        instant = tables.observed_until if as_of is None else parse_instant(as_of, where="--as-of")
        yield loaded, scorer, tables, instant


def _of_version(store: BundleStore, name: str, version: str, tracking_uri: str) -> Scorer:
    """The scorer of a registered version, its bundle verified. Raises UnknownModel and CorruptBundle."""
    from predictive_scoring.keeping.registry import Registry

    chosen = Registry(tracking_uri).version(name, version)
    bundle = read_bundle(store.path(chosen.bundle))
    return Scorer(bundle.scoring_model(), bundle.identity, chosen.version, bundle.manifest)
