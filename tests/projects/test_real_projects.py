"""The two public data sets through the front door: the command line in a process of its own.

The data lie in `../shared/data` or where PREDICTIVE_SCORING_DATA points. Without them these tests skip with
the reason; with CI=true they fail.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.special import logit

from predictive_scoring.data.dataset import build_dataset
from predictive_scoring.data.sources import load_project, open_tables
from predictive_scoring.keeping.bundle import read_bundle, write_bundle
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.scoring import champion_scorer

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"bank_marketing": "bank_marketing_uci", "complete_journey": "complete_journey"}
METRICS = {"auc", "pr_auc", "log_loss", "brier", "ece", "base_rate", "lift_at_10", "capture_at_10", "n"}

pytestmark = [pytest.mark.data, pytest.mark.slow]


@dataclass(frozen=True)
class Trained:
    """One project, trained and promoted by the command line into a folder of its own."""

    name: str
    folder: Path

    @property
    def stdout(self):
        """What `train --json` printed."""
        return (self.folder / "train.out").read_text("utf-8")

    @property
    def file(self):
        return ROOT / "data" / "projects" / self.name / "scoring.yaml"

    @property
    def uri(self):
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def store(self):
        return BundleStore(self.folder / "models" / self.name)

    @property
    def document(self):
        return json.loads(self.stdout)

    def cli(self, verb, *arguments, registry=True, expected=0):
        where = ["--project", str(self.file), "--models", str(self.folder / "models")]
        if registry:
            where += ["--tracking-uri", self.uri]
        answer = subprocess.run(
            [Path(sys.executable).with_name("predictive-scoring"), verb, *where, *arguments, "--json"],
            capture_output=True,
            text=True,
            timeout=280,
            cwd=self.folder,
        )
        assert answer.returncode == expected, f"{answer.stdout}\n{answer.stderr}"
        return answer.stdout

    def bundle(self, document=None):
        return read_bundle(Path(self.folder, (document or self.document)["model"]["path"]))

    @property
    def alias(self):
        """The version that MLflow calls champion."""
        return str(self.client().get_model_version_by_alias(self.name, "champion").version)

    def client(self):
        import mlflow

        return mlflow.MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)


def data_folder(name):
    root = os.environ.get("PREDICTIVE_SCORING_DATA") or ROOT.parent / "shared" / "data"
    folder = Path(root).resolve() / FOLDERS[name]
    if not folder.is_dir():
        reason = f"the data set {FOLDERS[name]} is not in {folder.parent}; set PREDICTIVE_SCORING_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder.parent


@pytest.fixture(scope="module")
def train_once(made_once):
    """`train_once(name)`: the project, trained and promoted by the first worker to ask; read-only."""

    def make(folder):
        folder.mkdir()
        project = Trained(folder.name, folder)
        (folder / "train.out").write_text(project.cli("train"), "utf-8")
        (folder / "promote.out").write_text(project.cli("promote"), "utf-8")

    def once(name):
        data_folder(name)
        return Trained(name, made_once(name, make))

    return once


@pytest.fixture(params=sorted(FOLDERS))
def trained(request, train_once):
    return train_once(request.param)


@pytest.fixture
def bank(train_once):
    return train_once("bank_marketing")


@pytest.fixture
def journey(train_once):
    return train_once("complete_journey")


def opened(trained):
    loaded = load_project(trained.file)
    return open_tables(loaded)


# What `train --json` says -------------------------------------------------------------------------------------


def test_standard_output_is_exactly_one_json_document_with_the_documented_keys(trained):
    assert trained.stdout.count("\n") == 1
    document = trained.document
    assert set(document) == {"run_id", "model", "verdict", "reasons", "evidence", "metrics"}
    assert set(document["model"]) == {"name", "version", "bundle", "path"}
    assert set(document["metrics"]["test"]) >= METRICS
    assert re.fullmatch("[0-9a-f]{32}", document["run_id"])
    assert re.fullmatch("sha256:[0-9a-f]{64}", document["model"]["bundle"])
    assert document["verdict"] == "validated"
    assert document["reasons"]
    assert all(isinstance(reason, str) for reason in document["reasons"])


def test_bank_marketing_in_date_order_beats_plain_boosting_by_far(bank):
    test = bank.document["metrics"]["test"]
    assert test["auc"] >= 0.74
    assert test["log_loss"] < 0.60
    assert test["n"] == 8238
    assert test["base_rate"] == pytest.approx(0.308, abs=0.001)


def test_complete_journey_ranks_the_campaigns_from_august_on(journey):
    test = journey.document["metrics"]["test"]
    assert test["auc"] >= 0.75
    assert test["n"] > 2000
    periods = journey.document["metrics"]["periods"]
    assert periods["test"]["first_cutoff"] >= "2017-08-01"
    assert periods["calibrate"]["last_cutoff"] < "2017-08-01"


def test_the_length_of_the_call_is_nowhere_in_the_bank_model(bank):
    bundle = bank.bundle()
    model = bundle.scoring_model()
    assert "duration" in model.project.leaks
    assert "duration" not in {feature.name for feature in model.features}
    assert "duration" not in {column.name for column in model.model.columns}
    for name in ("model.txt", "model.json", "reference.json", "golden.jsonl"):
        assert '"duration"' not in bundle.files[name], name


# The run in MLflow ------------------------------------------------------------------------------------------


def test_the_run_holds_parameters_metrics_plots_data_set_and_signature(trained):
    client = trained.client()
    run = client.get_run(trained.document["run_id"])
    assert run.info.status == "FINISHED"
    assert {"seed", "data_hash", "boosting_weight", "ridge_penalty", "feature_fingerprint"} <= set(
        run.data.params
    )
    assert run.data.metrics["test_auc"] == trained.document["metrics"]["test"]["auc"]
    assert run.data.tags["bundle"] == trained.document["model"]["bundle"]
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.name.startswith(trained.name)
    plots = {
        entry.path for entry in client.list_artifacts(run.info.run_id, "plots") if entry.path.endswith(".png")
    }
    assert plots == {f"plots/{name}.png" for name in ("calibration", "gain", "scores")}
    for plot in plots:
        picture = Path(client.download_artifacts(run.info.run_id, plot)).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 5000


def test_the_signature_takes_text_for_categories_and_doubles_for_numbers(trained):
    version = trained.client().get_model_version(trained.name, trained.document["model"]["version"])
    assert version.run_id == trained.document["run_id"]
    texts = [path.read_text("utf-8") for path in trained.folder.rglob("MLmodel")]
    (model,) = [yaml.safe_load(text) for text in texts if version.run_id in text]
    columns = trained.bundle().scoring_model().model.columns
    assert {entry["name"]: entry["type"] for entry in json.loads(model["signature"]["inputs"])} == {
        column.name: "double" if column.kind == "number" else "string" for column in columns
    }
    assert model["flavors"]["python_function"]["loader_module"] == "predictive_scoring.keeping.pyfunc"
    assert model["flavors"]["python_function"]["code"] is None


# Promoted, loaded, scored -----------------------------------------------------------------------------------

STOCK = textwrap.dedent(
    """
    import sys
    import mlflow, pandas as pd
    uri, name, rows, out = sys.argv[1:]
    mlflow.set_tracking_uri(uri)
    model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    model.predict(pd.read_parquet(rows)).to_parquet(out)
    assert not [module for module in sys.modules if module.startswith("cloudpickle.cloudpickle_fast")]
    """
)


def test_promote_makes_the_trained_version_champion_on_both_sides(trained):
    told = json.loads((trained.folder / "promote.out").read_text("utf-8"))
    assert told["name"] == trained.name
    assert told["champion"]["version"] == trained.document["model"]["version"] == "1"
    assert told["champion"]["run_id"] == trained.document["run_id"]
    assert trained.alias == trained.store.champion().version == "1"


def test_the_stock_mlflow_load_with_pickle_forbidden_predicts_what_the_scorer_scores(journey, tmp_path):
    scorer = champion_scorer(journey.store)
    dataset = build_dataset(opened(journey), scorer.scoring.views)
    rows = dataset.rows("test")[0].iloc[:400][[column.name for column in scorer.scoring.model.columns]]
    rows.to_parquet(tmp_path / "rows.parquet")
    answer = subprocess.run(
        [
            sys.executable,
            "-c",
            STOCK,
            journey.uri,
            journey.name,
            tmp_path / "rows.parquet",
            tmp_path / "out.parquet",
        ],
        env={**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert answer.returncode == 0, answer.stderr
    predicted = pd.read_parquet(tmp_path / "out.parquet")
    assert np.abs(predicted["probability"] - scorer.scoring.model.probability(rows)).max() <= 1e-12
    assert (
        predicted["score"].tolist()
        == scorer.scoring.grading.scores(scorer.scoring.model.logit(rows)).tolist()
    )
    assert not [
        path for path in journey.folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib", ".skops")
    ]


def test_every_score_that_the_command_line_prints_adds_up(journey):
    document = json.loads(journey.cli("score", registry=False))
    scored = [score for score in document["scores"] if score["status"] == "scored"]
    assert len(scored) > 3000
    for score in scored:
        explanation = score["explanation"]
        total = explanation["base"] + sum(row["contribution"] for row in explanation["rows"])
        assert abs(total - explanation["output"]) <= 1e-9
        assert abs(explanation["output"] - logit(score["probability"])) <= 1e-9
        assert score["reasons"]
        assert 1 <= score["score"] <= 99
    assert {score["status_reason"] for score in document["scores"]} <= {None, "already_converted"}


# Trained again ----------------------------------------------------------------------------------------------


@pytest.mark.trial  # trains once more; the quick form is in tests/unit/keeping/test_bundle.py
def test_training_again_gives_the_same_bundle_and_a_second_promotion_rolls_back(journey, tmp_path):
    shutil.copytree(journey.folder, tmp_path / journey.name)
    copy = Trained(journey.name, tmp_path / journey.name)
    # An equal model has not earned the place of the champion.
    again = json.loads(copy.cli("train", expected=3))
    assert again["run_id"] != journey.document["run_id"]
    assert again["model"]["version"] == "2"
    # Beside the champion it is compared with it, and says so, but it is the same bundle.
    assert again["model"]["bundle"] == journey.document["model"]["bundle"]
    assert again["metrics"]["test"] == journey.document["metrics"]["test"]
    assert again["verdict"] == "rejected"
    assert any("champion" in reason for reason in again["reasons"])

    # Going back needs another bundle: the same model with a note on its card.
    card = {"model_card.md": journey.bundle().files["model_card.md"] + "\nA note.\n"}
    other = write_bundle(copy.store.bundles, {**journey.bundle().files, **card}, {"run_id": again["run_id"]})
    copy.client().create_model_version(
        journey.name,
        str(other.path),
        run_id=again["run_id"],
        tags={
            "bundle": other.identity,
            "verdict": "validated",
            "judged_against": journey.document["model"]["bundle"],
        },
    )
    assert json.loads(copy.cli("promote"))["champion"]["version"] == "3"
    assert copy.alias == copy.store.champion().version == "3"
    assert champion_scorer(copy.store).identity == other.identity
    assert json.loads(copy.cli("rollback"))["champion"]["version"] == "1"
    assert copy.alias == copy.store.champion().version == "1"
    assert champion_scorer(copy.store).identity == journey.document["model"]["bundle"]
