"""Processes of the service that are killed, and asked to stop, while clients load it."""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import threading
import time

import pytest

from services import is_free, launched, loaded, score_body, serving, until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="asks the Linux kernel to end children with their parent"
)


@pytest.mark.slow
def test_a_killed_worker_comes_back_and_a_stop_loses_nothing(small_champion, tmp_path):
    with serving(small_champion.file, small_champion.models, tmp_path) as service:
        # Killed while it answers: that one answer is lost, the ones behind it wait and are not refused.
        asked = threading.Thread(target=_lost, args=(service,))
        asked.start()
        time.sleep(0.1)
        before = service.children
        os.kill(before["api-1"], signal.SIGKILL)
        os.kill(before["background"], signal.SIGKILL)
        assert until(lambda: service.children.get("api-1") != before["api-1"])
        status, _, _ = service.ask("/v1/score", score_body())
        assert status == 200
        asked.join(60)
        assert until(lambda: service.children.get("background") not in (None, before["background"]))
        assert service.children["api-1"] != before["api-1"]
        died = {line["child"]: line for line in service.lines if line["event"] == "process_died"}
        assert died["api-1"]["exit_code"] == -signal.SIGKILL
        # Counting goes on where the dead worker stopped, in as many series.
        assert b"predictive_scoring_requests_total" in service.ask("/metrics")[1]
        _stop_loses_nothing(service)


def _lost(service) -> None:
    try:
        service.ask("/v1/score", score_body(1000))
    except OSError:
        pass


def _stop_loses_nothing(service) -> None:
    slow: list[int] = []
    with loaded(service) as load:
        assert until(lambda: len([one for one in load.answers if one[1] == 200]) > 50)
        asked = threading.Thread(target=lambda: slow.append(service.ask("/v1/score", score_body(1000))[0]))
        asked.start()
        time.sleep(0.2)
        stopped = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        # Unready before it is deaf: a balancer sees it while requests are still answered.
        assert until(lambda: service.ask("/readyz")[0] == 503, 1.0)
        assert service.process.wait(40) == 0
        asked.join(60)
    assert slow == [200]
    lost = [status for sent, status in load.answers if sent <= stopped and status != 200]
    assert not lost, lost
    assert not service.children
    assert until(lambda: is_free(service.port))
    assert "Stopped." in service.said


@pytest.mark.slow
def test_a_killed_launcher_leaves_nothing_on_the_port(small_champion, tmp_path):
    with serving(small_champion.file, small_champion.models, tmp_path, "--no-worker") as service:
        (worker,) = service.children.values()
        service.process.kill()
        service.process.wait(10)
        assert until(lambda: is_free(service.port))
        assert until(lambda: not _runs(worker))


@pytest.mark.trial
def test_workers_killed_at_any_moment_lose_their_own_answers_only(small_champion, tmp_path):
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)  # noqa: T201 to repeat a failure
    chance = random.Random(seed)
    kills = 8
    # As often as the clients like: what is refused here must not be for the rate.
    rate = {"PREDICTIVE_SCORING_RATE": "100000:100000"}
    project, models = small_champion.file, small_champion.models
    with serving(project, models, tmp_path, "--workers", "2", environment=rate) as service:
        with loaded(service, clients=8) as load:
            for _ in range(kills):
                time.sleep(chance.uniform(0.5, 3.0))
                names = [name for name in service.children if name.startswith("api")]
                if names:
                    os.kill(service.children[chance.choice(names)], signal.SIGKILL)
            assert until(lambda: len(service.children) == 3)
            assert until(service.is_ready)
        answers = [status for _, status in load.answers]
        assert set(answers) <= {200, 0}, "nothing is refused"
        # What a worker was answering when it died is lost: at most one request of each client.
        assert answers.count(0) <= kills * 8
        assert answers.count(200) > 20


@pytest.mark.trial
def test_a_launcher_killed_at_any_moment_of_its_start_leaves_nothing(small_champion, tmp_path):
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        with launched(small_champion.file, small_champion.models, folder) as service:
            time.sleep(0.2 + 0.6 * number)
            left = service.children
            service.process.kill()
            service.process.wait(10)
            assert until(lambda: is_free(service.port)), number
            for pid in left.values():
                assert until(lambda pid=pid: not _runs(pid)), number


@pytest.mark.trial
def test_the_second_signal_does_not_wait(small_champion, tmp_path):
    with serving(small_champion.file, small_champion.models, tmp_path, "--no-worker") as service:
        with socket.create_connection(("127.0.0.1", service.port)) as slow:
            # A request that never ends: its body is announced and does not come.
            slow.sendall(
                b"POST /v1/score HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                b"content-length: 10\r\n\r\n"
            )
            service.process.send_signal(signal.SIGTERM)
            time.sleep(1.5)
            assert service.process.poll() is None
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(5) == 0
        assert until(lambda: is_free(service.port))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
