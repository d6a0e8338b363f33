"""Notebooks are executed from start to end as a reader would, in a temporary copy that leaves no trace."""

import resource
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_SECONDS = 90


def read(path):
    return nbformat.read(path, as_version=4)


def test_there_is_a_quickstart():
    assert "quickstart.ipynb" in [path.name for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_committed_valid_and_without_outputs(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def seconds_of_children():
    """Processor time of ended child processes: unlike the clock it does not mind busy neighbours."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_from_start_to_end(path, tmp_path, monkeypatch):
    # What a first-time reader has: no settings of their own, and everything made goes where we can see it.
    for name in ("MLFLOW_TRACKING_URI", "PREDICTIVE_SCORING_MODELS", "MPLBACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    started = seconds_of_children()
    notebook = read(path)
    client = NotebookClient(
        notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    assert seconds_of_children() - started < MOST_SECONDS
    # It tidies up after itself, in the temporary folder and beside itself.
    assert [made.name for made in tmp_path.iterdir() if made.name.startswith(path.stem)] == []
    assert {made.suffix for made in path.parent.iterdir()} <= {".ipynb", ".md"}
    if path.name == "quickstart.ipynb":
        _assert_shows_what_it_promises(notebook)


def _assert_shows_what_it_promises(notebook):
    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}

    def printed(name):
        return "".join(output.get("text", "") for output in outputs[name])

    def pictures(name):
        return [output for output in outputs[name] if "image/png" in output.get("data", {})]

    assert "Verdict: validated" in printed("train")
    assert len(pictures("mlflow-plots")) == 3
    assert len(pictures("waterfall")) == 1
    assert "score" in printed("reasons")
    assert "evidence: playbook" in printed("action")
    complaints = [
        (name, output.text)
        for name, made in outputs.items()
        for output in made
        if output.output_type == "stream" and output.name == "stderr" and "Warning" in output.text
    ]
    assert complaints == []
