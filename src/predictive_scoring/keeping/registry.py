"""Runs and versions in MLflow, and the two-sided move of the champion. The only module that imports mlflow."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before the import: MLflow reads it once.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
import pandas as pd
from mlflow.data.pandas_dataset import from_pandas
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, Schema, TensorSpec

from predictive_scoring.errors import EnvironmentMissing, UnknownModel
from predictive_scoring.keeping.champion import (
    NOBODY,
    BundleStore,
    Promotion,
    Succession,
    check_earned,
    check_reason,
    rolled_back,
    succeeded_by,
)
from predictive_scoring.keeping.drafts import make_once

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHAMPION = "champion"
CHALLENGER = "challenger"
ROLLED_BACK = "rolled back"
"""The verdict of a version that was taken away again, until it is judged anew."""


@dataclass(frozen=True)
class Version:
    """A registered version of a project's model, with the verdict on it and the identity of the champion that it
    was judged against (`none`: there was none; empty: nobody noted it)."""

    name: str
    version: str
    run_id: str
    bundle: str
    verdict: str
    metrics: Mapping[str, float]
    judged_against: str = ""


@dataclass(frozen=True)
class RunRecord:
    """What a training run leaves in MLflow besides its bundle."""

    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    figures: Mapping[str, Figure]
    texts: Mapping[str, str]
    dataset: pd.DataFrame
    dataset_name: str
    label: str
    inputs: Sequence[tuple[str, str]]
    """(column, `number` or `category`) of the model's inputs, in order."""
    example: pd.DataFrame
    """Synthetic rows; never real leads."""
    trials: Sequence[tuple[Mapping[str, Any], float]]
    """Settings that were tried, each with its out-of-fold log-loss; one nested run each."""


@dataclass(frozen=True)
class Registry:
    """The MLflow tracking server or database behind `tracking_uri`."""

    tracking_uri: str

    @contextmanager
    def run(self, name: str, verb: str = "train") -> Iterator[str]:
        """An active run in the project's experiment, named by the `verb`; yields its id. A failure marks it failed."""
        self._connect()
        experiment = mlflow.get_experiment_by_name(name)
        identifier = experiment.experiment_id if experiment else self._create(name)
        with mlflow.start_run(experiment_id=identifier, run_name=f"{verb} {name}") as run:
            yield run.info.run_id

    def record(
        self,
        name: str,
        bundle: Path,
        identity: str,
        verdict: str,
        record: RunRecord,
        judged_against: str | None = None,
    ) -> Version:
        """Log everything to the active run and register its bundle as a new version of `name`. `judged_against` is
        the identity of the champion that the verdict is about, None where there was none."""
        mlflow.log_params({key: str(value)[:500] for key, value in record.params.items()})
        mlflow.log_metrics({key: value for key, value in record.metrics.items() if value == value})
        for number, (settings, loss) in enumerate(record.trials, start=1):
            with mlflow.start_run(nested=True, run_name=f"trial {number}"):
                mlflow.log_params({key: str(value) for key, value in settings.items()})
                mlflow.log_metric("recent_log_loss", loss)
        for file, figure in record.figures.items():
            mlflow.log_figure(figure, file, save_kwargs={"bbox_inches": "tight"})
        for file, text in record.texts.items():
            mlflow.log_text(text, file)
        dataset = from_pandas(record.dataset, name=record.dataset_name, targets=record.label)
        mlflow.log_input(dataset, context="train")
        mlflow.set_tags({"bundle": identity, "verdict": verdict})
        info = mlflow.pyfunc.log_model(
            name="bundle",
            loader_module="predictive_scoring.keeping.pyfunc",
            data_path=str(bundle),
            signature=_signature(record.inputs),
            input_example=record.example,
            # Named, because inferring them starts a second interpreter and costs six seconds.
            pip_requirements=["predictive-scoring"],
        )
        against = judged_against or NOBODY
        # With its tags in one step: no version is ever seen without its bundle and verdict.
        made = mlflow.register_model(
            info.model_uri, name, tags={"bundle": identity, "verdict": verdict, "judged_against": against}
        )
        version = str(made.version)
        mlflow.MlflowClient().set_registered_model_alias(name, CHALLENGER, version)
        run = mlflow.active_run()
        run_id = run.info.run_id if run else ""
        return Version(name, version, run_id, identity, verdict, dict(record.metrics), against)

    def log_look(self, name: str, metrics: Mapping[str, float], page: str, tags: Mapping[str, str]) -> str:
        """Keep one look at a model in use as a run of its own, `page` (HTML) with it; returns the run's id."""
        with self.run(name, "monitor") as run_id:
            mlflow.log_metrics({key: value for key, value in metrics.items() if value == value})
            mlflow.set_tags(dict(tags))
            mlflow.log_text(page, "monitoring.html")
        return run_id

    def experiments(self) -> int:
        """How many experiments the server holds: a sign that it answers."""
        self._connect()
        return len(mlflow.search_experiments())

    def versions(self, name: str) -> list[Version]:
        """Registered versions of `name`, oldest first."""
        self._connect()
        client = mlflow.MlflowClient()
        found = client.search_model_versions(f"name='{name}'")
        return [
            Version(
                name,
                str(entry.version),
                entry.run_id or "",
                entry.tags.get("bundle", ""),
                entry.tags.get("verdict", ""),
                client.get_run(entry.run_id).data.metrics if entry.run_id else {},
                entry.tags.get("judged_against", ""),
            )
            for entry in sorted(found, key=lambda entry: int(entry.version))
        ]

    def version(self, name: str, wanted: str | None = None) -> Version:
        """One version: `wanted`, or the newest. Raises UnknownModel."""
        found = self.versions(name)
        chosen = [entry for entry in found if wanted is None or entry.version == wanted]
        if not chosen:
            raise UnknownModel(
                what=f"there is no version {wanted} of {name!r}"
                if wanted
                else f"no version of {name!r} exists",
                where=self.tracking_uri,
                remedy=f"Versions: {', '.join(entry.version for entry in found)}."
                if found
                else "Run predictive-scoring train first.",
            )
        return chosen[-1]

    def judged(self, version: Version, verdict: str, judged_against: str, rows: str) -> None:
        """Record a new verdict on a version: against which champion (its identity), and on which `rows` (words)."""
        self._connect()
        client = mlflow.MlflowClient()
        # An interruption leaves a version that was never judged, never one judged against somebody else.
        for tag, text in (
            ("verdict", ""),
            ("judged_against", judged_against),
            ("judged_on", rows),
            ("verdict", verdict),
        ):
            client.set_model_version_tag(version.name, version.version, tag, text)

    def promote(
        self, store: BundleStore, version: Version, *, promoted_at: str, override: str | None = None
    ) -> Promotion:
        """Make `version` the champion: alias in MLflow and pointer on disk together.

        Raises GateRefused for a version that has not earned it against the present champion (see
        `champion.check_earned`) unless there is an `override`, a written reason, which is recorded; and
        EnvironmentMissing and UnreadableFile where registry or pointer cannot be written: the champion then stays."""
        reason = check_reason(override)
        self._connect()
        bundle = store.path(version.bundle).name
        promotion = Promotion(bundle, version.version, version.run_id, promoted_at, reason)
        with self._named(), store.locked():
            succession = store.succession_or_new()
            self._settle(store, version.name, succession)
            if reason is None:
                # Read under the lock: another promotion or a comparison may have come first.
                tags = mlflow.MlflowClient().get_model_version(version.name, version.version).tags
                check_earned(
                    succession,
                    bundle,
                    version=version.version,
                    verdict=tags.get("verdict", ""),
                    judged_against=tags.get("judged_against", ""),
                    where=f"model {version.name!r}, MLflow run {version.run_id}",
                )
            self._move(store, version.name, succeeded_by(succession, promotion))
        return store.champion()

    def rollback(self, store: BundleStore, name: str) -> Promotion:
        """Make the champion before the present one champion again. The one that is left counts as `rolled back`
        until it is judged anew, so that the next retraining does not promote it again. Raises UnknownModel, and what
        `promote` raises where something cannot be written."""
        self._connect()
        with self._named(), store.locked():
            succession = store.succession()
            self._settle(store, name, succession)
            earlier = rolled_back(succession, str(store.pointer))
            left = succession.champion
            self._move(store, name, earlier, left.version if left else None)
        return store.champion()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """What MLflow refuses, as a named error."""
        try:
            yield
        except MlflowException as refused:
            # The further lines are the statement and its values.
            raise EnvironmentMissing(
                what=f"MLflow cannot keep it: {str(refused).partition(chr(10))[0]}",
                where=self.tracking_uri,
                remedy="Mend the tracking server or its database (space, rights, address), then do the same again.",
            ) from refused

    def _move(
        self, store: BundleStore, name: str, succession: Succession, leaving: str | None = None
    ) -> None:
        # Alias first, pointer last: what is served changes only in the last, atomic step. An interruption in
        # between leaves the note of `begin`, and `_settle` then puts the alias back to what is served.
        store.begin(succession.champion, leaving)
        self._point_alias(name, succession.champion)
        store.write_pointer(succession)
        self._settle(store, name, succession)

    def _settle(self, store: BundleStore, name: str, succession: Succession) -> None:
        """Bring MLflow to what the pointer says, if a move is noted as not complete."""
        if not store.pending():
            return
        champion, leaving = succession.champion, store.leaving()
        self._point_alias(name, champion)
        client = mlflow.MlflowClient()
        if champion is not None and champion.override:
            client.set_model_version_tag(name, champion.version, "override", champion.override)
        if leaving is not None and (champion is None or champion.version != leaving):
            client.set_model_version_tag(name, leaving, "verdict", ROLLED_BACK)
        store.settle()

    def _point_alias(self, name: str, champion: Promotion | None) -> None:
        self._connect()
        client = mlflow.MlflowClient()
        if champion is not None:
            client.set_registered_model_alias(name, CHAMPION, champion.version)
            return
        try:
            client.delete_registered_model_alias(name, CHAMPION)
        except MlflowException:
            logging.getLogger(__name__).info("no champion alias to delete for %s", name)

    def _connect(self) -> None:
        for noisy in ("alembic", "mlflow"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        if self._database is not None:
            make_once(self._database, _new_database)
        mlflow.set_tracking_uri(self.tracking_uri)

    @property
    def _database(self) -> Path | None:
        """The file of a local database."""
        file = self.tracking_uri.removeprefix("sqlite:///")
        return Path(file).absolute() if file != self.tracking_uri else None

    def _create(self, name: str) -> str:
        location = None if self._database is None else (self._database.parent / "mlartifacts").as_uri()
        return str(mlflow.create_experiment(name, artifact_location=location))


def _new_database(path: Path) -> None:
    """An empty MLflow database. MLflow builds one by a hundred migrations, and one that was interrupted among them can
    never be opened again, so it is built under another name."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    root = (path.parent.parent / "mlartifacts").as_uri()
    store = SqlAlchemyStore(f"sqlite:///{path}", root)  # type: ignore[no-untyped-call]  # untyped there
    store.engine.dispose()


def _signature(inputs: Sequence[tuple[str, str]]) -> ModelSignature:
    columns: list[ColSpec | TensorSpec] = [
        ColSpec("double" if kind == "number" else "string", name, required=kind == "number")
        for name, kind in inputs
    ]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec("double", "probability"),
        ColSpec("double", "log_odds"),
        ColSpec("long", "score"),
    ]
    return ModelSignature(inputs=Schema(columns), outputs=Schema(outputs))
