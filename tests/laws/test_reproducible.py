"""The same data, seed and code give the same bundle, in any process, whatever its hash seed and number of threads."""

import json
import os
import subprocess
import sys

import pytest


def trained_apart(project, folder, **environment):
    """The bundle that the command line trains in a process of its own."""
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from predictive_scoring.cli import main; main()", "train", "--json"),
            *("--project", str(project.file), "--models", str(folder / "models")),
            *("--tracking-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        ],
        env={**os.environ, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["model"]["bundle"]


@pytest.mark.trial
@pytest.mark.timeout(900)
def test_two_processes_make_the_same_bundle(small_champion, tmp_path):
    made = []
    for number, (seed, threads) in enumerate([("1", "1"), ("4242", "2")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        made.append(trained_apart(small_champion, folder, PYTHONHASHSEED=seed, OMP_NUM_THREADS=threads))
    assert made[0] == made[1]


def test_the_manifest_says_what_made_the_bundle(small_champion):
    manifest = small_champion.scorer.manifest
    assert len(manifest["data_hash"]) == len(manifest["code"]) == 64
    assert manifest["seed"] == small_champion.loaded.project.seed
    assert {"lightgbm", "numpy", "predictive-scoring"} <= set(manifest["versions"])
