"""From a user's own tables to a trained model without touching the draft: `init`, `validate`, `train`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import crm_exports

ROOT = Path(__file__).resolve().parents[2]
CLI = Path(sys.executable).with_name("predictive-scoring")

pytestmark = pytest.mark.slow


def data(name):
    path = Path(os.environ.get("PREDICTIVE_SCORING_DATA") or ROOT.parent / "shared" / "data") / name
    if not path.exists():
        reason = f"{path} is missing; set PREDICTIVE_SCORING_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path.resolve()


def run(folder, *arguments, exit_code=0):
    """Standard output of the command, as the one JSON document that it is, and standard error."""
    answer = subprocess.run(
        [CLI, *map(str, arguments), "--json"], capture_output=True, text=True, timeout=280, cwd=folder
    )
    assert answer.returncode == exit_code, f"{answer.stdout}\n{answer.stderr}"
    return json.loads(answer.stdout), answer.stderr


def train(folder, **expected):
    return run(folder, "train", "--models", "models", "--tracking-uri", "sqlite:///mlflow.db", **expected)[0]


@pytest.mark.data
def test_page_values_of_the_online_shoppers_is_found_unaided(tmp_path):
    drafted, _ = run(tmp_path, "init", data("online_shoppers_uci/online_shoppers_intention.csv"))
    assert any("PageValues" in note and "AUC 0.8" in note for note in drafted["notes"])
    report, _ = run(tmp_path, "validate")
    assert report["ready_to_train"]
    assert any("'PageValues'" in finding["what"] for finding in report["findings"])


@pytest.mark.data
@pytest.mark.trial
def test_online_shoppers_train_on_the_untouched_draft(tmp_path):
    run(tmp_path, "init", data("online_shoppers_uci/online_shoppers_intention.csv"))
    trained = train(tmp_path)
    assert trained["verdict"] == "validated"
    assert 0.65 < trained["metrics"]["test"]["auc"] < 0.85


@pytest.mark.data
def test_hubspots_public_tables_are_too_small_and_that_is_said(tmp_path):
    drafted, progress = run(tmp_path, "init", data("hubspot_schema_seeds"))
    assert any("HubSpot" in note for note in drafted["notes"])
    assert "reading what they did" in progress
    report, _ = run(tmp_path, "validate", exit_code=2)
    assert {"PS101", "PS102", "PS103"} & {finding["code"] for finding in report["findings"]}
    assert train(tmp_path, exit_code=2)["error"] == "ConversionNeverOccurs"


@pytest.mark.trial
def test_a_salesforce_export_trains_on_the_untouched_draft(tmp_path):
    crm_exports.salesforce(tmp_path / "export", leads=900)
    run(tmp_path, "init", "export")
    written = (tmp_path / "scoring.yaml").read_text("utf-8")
    refused, _ = run(tmp_path, "init", "export", exit_code=2)
    assert refused["what"] == "scoring.yaml exists already"
    assert (tmp_path / "scoring.yaml").read_text("utf-8") == written
    run(tmp_path, "validate")
    trained = train(tmp_path)
    assert trained["verdict"] == "validated"
    assert trained["metrics"]["test"]["auc"] > 0.6
