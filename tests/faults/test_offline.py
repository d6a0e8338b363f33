"""Everything works on a machine that reaches no other: in a network namespace that holds a loopback device only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import SAMPLE, SMALL_CHANGES

if TYPE_CHECKING:
    from conftest import SmallProject

# Run in a namespace of its own. 0x8914 is SIOCSIFFLAGS, 0x41 up and running; 192.0.2.1 is nobody (RFC 5737).
ALONE = """
import errno, fcntl, json, socket, struct, subprocess, sys
from pathlib import Path

with socket.socket() as probe:
    fcntl.ioctl(probe, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
with socket.socket() as probe:
    assert probe.connect_ex(("192.0.2.1", 80)) == errno.ENETUNREACH, "this is no namespace without a network"

from services import ROOT, VERB, score_body, serving

project, models, folder, *verbs = sys.argv[1:]

def run(verb):
    ended = subprocess.run([sys.executable, "-c", VERB, *verb.split()], cwd=folder, capture_output=True, text=True)
    assert ended.returncode == 0, f"{verb}: {ended.stdout} {ended.stderr}"
    print(verb.split()[0], "works")

for verb in verbs:
    run(verb)
with serving(Path(project), Path(models), Path(folder)) as service:
    status, body, _ = service.ask("/v1/score", score_body(3))
    assert status == 200 and len(json.loads(body)["scores"]) == 3
    for page in ("/", "/docs", "/v1/leads", "/v1/model", "/metrics"):
        assert service.ask(page)[0] == 200, page
print("serve works")
"""


def _alone(project: Path, models: Path, folder: Path, *verbs: str) -> list[str]:
    """Run verbs and then the service without a network; what worked. Skips where no namespace may be made."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rn", "true"], capture_output=True).returncode:
        pytest.skip("this machine does not let us make a network namespace (unshare -rn)")
    ended = subprocess.run(
        [unshare, "-rn", sys.executable, "-c", ALONE, project, models, folder, *verbs],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return [line.removesuffix(" works") for line in ended.stdout.splitlines()]


@pytest.mark.slow
def test_the_service_starts_and_answers_without_a_network(
    small_champion: SmallProject, tmp_path: Path
) -> None:
    assert _alone(small_champion.file, small_champion.models, tmp_path) == ["serve"]


@pytest.mark.trial
@pytest.mark.timeout(1500)
def test_every_step_from_tables_to_scores_works_without_a_network(tmp_path: Path) -> None:
    for name in ("scoring.yaml", "playbook.yaml"):
        shutil.copy(SAMPLE / name, tmp_path / name)
    text = (tmp_path / "scoring.yaml").read_text("utf-8")
    for before, after in SMALL_CHANGES.items():
        text = text.replace(before, after)
    (tmp_path / "scoring.yaml").write_text(text, "utf-8")
    here, kept = "--project scoring.yaml", "--models models --tracking-uri sqlite:///mlflow.db"
    verbs = [
        f"simulate {here} --leads 600",
        f"validate {here}",
        f"train {here} {kept}",
        f"promote {here} {kept}",
        f"score {here} --models models --out scores.csv",
    ]
    worked = _alone(tmp_path / "scoring.yaml", tmp_path / "models", tmp_path, *verbs)
    assert worked == ["simulate", "validate", "train", "promote", "score", "serve"]
    assert len((tmp_path / "scores.csv").read_text("utf-8").splitlines()) > 500
