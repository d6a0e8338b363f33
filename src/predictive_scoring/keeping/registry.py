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

from predictive_scoring.errors import GateRefused, UnknownModel
from predictive_scoring.keeping.champion import (
    BundleStore,
    Promotion,
    Succession,
    rolled_back,
    succeeded_by,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHAMPION = "champion"
CHALLENGER = "challenger"


@dataclass(frozen=True)
class Version:
    """A registered version of a project's model."""

    name: str
    version: str
    run_id: str
    bundle: str
    verdict: str
    metrics: Mapping[str, float]


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
    def run(self, name: str) -> Iterator[str]:
        """An active run in the project's experiment; yields its id. A failure marks the run failed."""
        self._connect()
        experiment = mlflow.get_experiment_by_name(name)
        identifier = experiment.experiment_id if experiment else self._create(name)
        with mlflow.start_run(experiment_id=identifier, run_name=f"train {name}") as run:
            yield run.info.run_id

    def record(self, name: str, bundle: Path, identity: str, verdict: str, record: RunRecord) -> Version:
        """Log everything to the active run and register its bundle as a new version of `name`."""
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
            registered_model_name=name,
        )
        version = str(info.registered_model_version)
        client = mlflow.MlflowClient()
        client.set_model_version_tag(name, version, "bundle", identity)
        client.set_model_version_tag(name, version, "verdict", verdict)
        client.set_registered_model_alias(name, CHALLENGER, version)
        run = mlflow.active_run()
        return Version(name, version, run.info.run_id if run else "", identity, verdict, dict(record.metrics))

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

    def promote(
        self, store: BundleStore, version: Version, *, promoted_at: str, override: str | None = None
    ) -> Promotion:
        """Make `version` the champion: alias in MLflow and pointer on disk together.

        Raises GateRefused for a rejected version without an `override` (a written reason, recorded)."""
        if version.verdict != "validated" and not (override or "").strip():
            raise GateRefused(
                what=f"version {version.version} of {version.name!r} was {version.verdict or 'never judged'}",
                where=f"MLflow run {version.run_id}",
                remedy='Train a better one, or promote with --override "the reason", which is recorded.',
            )
        bundle = store.path(version.bundle).name
        promotion = Promotion(bundle, version.version, version.run_id, promoted_at, override)
        with store.locked():
            succession = store.succession_or_new()
            self._settle(store, version.name, succession)
            self._move(store, version.name, succeeded_by(succession, promotion))
        return promotion

    def rollback(self, store: BundleStore, name: str) -> Promotion:
        """Make the champion before the present one champion again. Raises UnknownModel."""
        self._connect()
        with store.locked():
            succession = store.succession()
            self._settle(store, name, succession)
            self._move(store, name, rolled_back(succession, str(store.pointer)))
        return store.champion()

    def _move(self, store: BundleStore, name: str, succession: Succession) -> None:
        # Alias first, pointer last: what is served changes only in the last, atomic step. An interruption in
        # between leaves the note of `begin`, and `_settle` then puts the alias back to what is served.
        store.begin(succession.champion)
        self._point_alias(name, succession.champion)
        store.write_pointer(succession)
        store.settle()

    def _settle(self, store: BundleStore, name: str, succession: Succession) -> None:
        if store.pending():
            self._point_alias(name, succession.champion)
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
        mlflow.set_tracking_uri(self.tracking_uri)

    def _create(self, name: str) -> str:
        location = None
        if self.tracking_uri.startswith("sqlite:///"):
            beside = Path(self.tracking_uri.removeprefix("sqlite:///")).absolute().parent
            location = (beside / "mlartifacts").as_uri()
        return str(mlflow.create_experiment(name, artifact_location=location))


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
