"""The real thing: `serve` as a process, BentoML below it, a port, signals, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from predictive_scoring.cli.serving import serve
from predictive_scoring.errors import InvalidSetting, PortInUse, UnknownModel

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = """
import sys
from pathlib import Path
from predictive_scoring.cli.serving import serve
from predictive_scoring.errors import PredictiveScoringError
try:
    code = serve(Path(sys.argv[1]), Path(sys.argv[2]), port=int(sys.argv[3]), say=lambda text: print(text, flush=True))
except PredictiveScoringError as refused:
    print(refused.to_document(), flush=True)
    code = refused.exit_code
sys.exit(code)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def launch(project: Path, models: Path, port: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(project), str(models), str(port)],
        stdout=subprocess.PIPE,
        text=True,
        # Nobody starts it from the repository's folder in real life, so nothing may depend on that.
        cwd=project.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )


@contextlib.contextmanager
def running(project: Path, models: Path, port: int):
    with launch(project, models, port) as process:
        try:
            yield process
        finally:
            process.kill()


def get(port: int, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


def until(condition, seconds: float = 40.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_it_serves_answers_a_crm_and_stops_when_told(small_champion):
    port = free_port()
    with running(small_champion.file, small_champion.models, port) as process:
        said = process.stdout.readline()
        assert f"http://127.0.0.1:{port}" in said, said
        assert "/v1/score" in said
        # Ours answer, not those of BentoML.
        assert json.loads(get(port, "/readyz")[1])["status"] == "ready"
        assert get(port, "/livez") == (200, b"ok\n")
        assert b"predictive_scoring_ready 1.0" in get(port, "/metrics")[1]
        assert b"Who to work today" in get(port, "/")[1]
        for path in ("/healthz", "/docs.json", "/schema.json", "/static_content/index.css"):
            assert get(port, path)[0] == 404, path
        lead = {
            "lead_id": "bar-1",
            "created_at": "2026-01-05T09:00:00Z",
            "events": [
                {"event_id": "1", "event_type": "pricing_view", "occurred_at": "2026-02-01T10:00:00Z"}
            ],
        }
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/score",
            data=json.dumps({"leads": [lead], "as_of": "2026-02-10T00:00:00Z"}).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=30) as answer:
            (score,) = json.loads(answer.read())["scores"]
        assert 0 < score["probability"] < 1
        with pytest.raises(PortInUse, match=f"{port}.*--port"):
            serve(small_champion.file, small_champion.models, port=port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
    assert until(lambda: is_free(port))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel to end children with their parent")
def test_a_killed_launcher_leaves_nothing_on_the_port(small_champion):
    port = free_port()
    with running(small_champion.file, small_champion.models, port) as process:
        assert process.stdout.readline()
        process.kill()
        process.wait(10)
        assert until(lambda: is_free(port))


@pytest.mark.slow
def test_a_service_that_cannot_load_ends_the_launcher_with_its_reason(small_champion, tmp_path):
    broken = tmp_path / "scoring.yaml"
    broken.write_text(
        small_champion.file.read_text("utf-8").replace("leads.parquet", "nowhere.parquet"), "utf-8"
    )
    port = free_port()
    with running(broken, small_champion.models, port) as process:
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "UnreadableFile" in said
    assert "nowhere.parquet" in said
    assert until(lambda: is_free(port))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", ""])  # noqa: S104
def test_only_the_loopback_address_is_bound(small_champion, host):
    with pytest.raises(InvalidSetting, match="--host"):
        serve(small_champion.file, small_champion.models, host=host)


def test_without_a_champion_nothing_starts(small_champion, tmp_path):
    with pytest.raises(UnknownModel, match="promote"):
        serve(small_champion.file, tmp_path)
