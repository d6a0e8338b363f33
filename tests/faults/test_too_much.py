"""More than the service takes: bursts, slow clients, and hours of everything together."""

from __future__ import annotations

import contextlib
import os
import random
import re
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from statistics import median

import pytest

from clients import Answer, Caller, Running, crowd
from services import score_body

RATE = 200
"""Requests per second that the service takes of one key in the long run."""
CHEAP = "/v1/nothing"
"""An address whose answer, a 404, costs least: so the requests come much faster than they are taken."""
MEGABYTE = 1e6


def _memory(running: Running) -> float:
    """Bytes that the process uses that answers."""
    return running.numbers()['predictive_scoring_process_resident_bytes{process="api-1"}']


# Bursts -----------------------------------------------------------------------------------------------------


def _flood(port: int, key: str, requests: int) -> tuple[Counter[int], int]:
    """Many requests on one connection, none of which waits for an answer: how they were answered, and how many
    answers say when to come again."""
    one = f"GET {CHEAP} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n\r\n".encode()
    last = one.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        sender = threading.Thread(target=connection.sendall, args=(one * (requests - 1) + last,))
        sender.start()
        heard = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        sender.join()
    statuses = Counter(int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", heard))
    waits = [int(seconds) for seconds in re.findall(rb"\r\nretry-after: (\d+)\r\n", heard)]
    assert all(1 <= seconds <= 10 for seconds in waits)
    return statuses, len(waits)


def _burst(running: Running, requests: int, connections: int) -> tuple[Counter[int], float, float]:
    """Flood the service with the requests of one key while another key asks calmly: the answers to the first, how
    long it took, and by how many bytes the memory grew."""
    before, found = _memory(running), []
    started = time.monotonic()

    def work() -> None:
        found.append(_flood(running.service.port, running.keys[0], requests // connections))

    with crowd(
        running.service.port, running.keys[1:2], lambda caller, _: caller.ask("GET", "/v1/model"), 0.05
    ) as calm:
        calm.wait_for(1)
        threads = [threading.Thread(target=work) for _ in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
        took = time.monotonic() - started
        calm.wait_for(2)
    assert {answer.status for answer in calm.answers} == {200}, "who asks calmly is not made to wait"
    statuses = sum((statuses for statuses, _ in found), Counter())
    assert statuses.total() == requests, "every request is answered"
    assert statuses.keys() <= {404, 429}
    assert sum(waits for _, waits in found) == statuses[429]
    return statuses, took, _memory(running) - before


def test_a_burst_is_answered_with_when_to_come_again_and_nobody_else_notices(running: Running) -> None:
    statuses, took, grown = _burst(running, 1600, 4)
    assert statuses[429] > 0
    # What is there at once, and what comes in meanwhile.
    assert statuses[404] <= 2 * RATE + RATE * (took + 1)
    assert grown < 40 * MEGABYTE


@pytest.mark.trial
def test_ten_times_as_much_for_a_while(running: Running) -> None:
    before = _memory(running)
    answered: Counter[int] = Counter()
    for _ in range(5):
        statuses, took, _ = _burst(running, 10 * 2 * RATE, 8)
        answered += statuses
        assert statuses[404] <= 2 * RATE + RATE * (took + 1)
    grown = (_memory(running) - before) / MEGABYTE
    print(f"{answered.total()} requests, {answered[429]} told to wait; memory grew by {grown:.0f} MB")  # noqa: T201
    assert answered[429] > answered[404]
    assert grown < 40


# Slow clients -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _held(port: int, first: Sequence[bytes]) -> Iterator[list[socket.socket]]:
    """Connections on which so much of a request was sent, and nothing more."""
    with contextlib.ExitStack() as stack:
        connections = []
        for text in first:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            connection.sendall(text)
            connections.append(connection)
        yield connections


def _unfinished_body(key: str) -> bytes:
    return (
        f"POST /v1/score HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n"
        'content-type: application/json\r\ncontent-length: 1000\r\n\r\n{"leads": ['
    ).encode()


SLOW: dict[str, Callable[[str, int], bytes]] = {
    "nothing": lambda key, number: b"",
    "heads": lambda key, number: b"GET /v1/model HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: " + b"x" * number,
    # More than are answered together.
    "bodies": lambda key, number: _unfinished_body(key),
}


@pytest.mark.parametrize("what", SLOW)
def test_slow_clients_do_not_stop_others(running: Running, what: str) -> None:
    texts = [SLOW[what](running.keys[0], number) for number in range(200)]
    with _held(running.service.port, texts) as slow:
        for connection in slow[::3]:
            connection.sendall(b" ")
        with running.caller(1) as caller:
            answers = [caller.ask("POST", "/v1/score", score_body()) for _ in range(10)]
        assert {answer.status for answer in answers} == {200}
        assert median(answer.done - answer.sent for answer in answers) < 1.0


@pytest.mark.trial
@pytest.mark.parametrize("what", SLOW)
def test_slow_clients_are_let_go(running: Running, what: str) -> None:
    with _held(running.service.port, [SLOW[what](running.keys[0], number) for number in range(900)]) as slow:
        opened = _descriptors(running)
        assert opened > 800
        # They trickle on; it does not help them.
        end = time.monotonic() + 25
        while time.monotonic() < end and _descriptors(running) > 60:
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.sendall(b"x" if what != "nothing" else b"")
            time.sleep(1)
        assert _descriptors(running) < 60
        with running.caller(1) as caller:
            assert caller.ask("POST", "/v1/score", score_body()).status == 200


def _descriptors(running: Running) -> float:
    return running.numbers()['predictive_scoring_process_open_descriptors{process="api-1"}']


# Soak -------------------------------------------------------------------------------------------------------


def _mixed(seed: int) -> Callable[[Caller, int], Answer]:
    """Some of everything that a client asks, in an order of its own."""
    chance = random.Random(seed)

    def step(caller: Caller, number: int) -> Answer:
        kind = chance.randrange(9)
        if kind < 2:
            return caller.ask("POST", "/v1/score", score_body(chance.randint(1, 20)))
        if kind < 4:
            # Some of them again.
            told = number // 8
            name, lead = f"soak-{seed}-{told}", f"soak-{told % 40}"
            event = {"type": "track", "messageId": name, "userId": lead, "event": "pricing_view"}
            return caller.ask("POST", "/v1/events", {"batch": [event]}, **{"idempotency-key": f"k-{name}"})
        if kind == 4:
            return caller.ask("GET", f"/v1/leads/L-{1 + chance.randrange(600):05d}")
        if kind == 5:
            return caller.ask("GET", f"/v1/leads?limit=20&offset={chance.randrange(200)}")
        if kind == 6:
            return caller.ask("GET", f"/v1/scores?limit={chance.randint(1, 50)}")
        if kind == 7:
            return caller.ask("GET", chance.choice(("/metrics", "/v1/model", "/docs", "/")))
        # A scanner: no two of its addresses are the same.
        return caller.ask(chance.choice(("GET", "POST", "BREW")), f"/{secrets.token_hex(8)}/{number}")

    return step


def _soak(running: Running, seconds: float, clients: int) -> tuple[Counter[int], list[dict[str, float]]]:
    """The answers by status, and what /metrics said meanwhile."""
    seed, looks = secrets.randbits(32), []
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    numbers = iter(range(seed, seed + clients))
    steps: dict[Caller, Callable[[Caller, int], Answer]] = {}

    def step(caller: Caller, number: int) -> Answer:
        if caller not in steps:
            steps[caller] = _mixed(next(numbers))
        return steps[caller](caller, number)

    end = time.monotonic() + seconds
    with crowd(running.service.port, running.keys[:clients], step, 0.01) as asking:
        while time.monotonic() < end:
            time.sleep(seconds / 40)
            looks.append(running.numbers())
    return Counter(answer.status for answer in asking.answers), looks


def _level(looks: Sequence[dict[str, float]], metric: str) -> float:
    """The highest that a metric's series were, together."""
    return max(sum(value for name, value in look.items() if metric in name) for look in looks)


def _is_flat(looks: Sequence[dict[str, float]], memory: float) -> None:
    """Nothing grew from the second quarter to the last one; of memory no more than so many bytes."""
    quarter = len(looks) // 4
    before, after = looks[quarter : 2 * quarter], looks[-quarter:]
    grown = _level(after, "process_resident_bytes") - _level(before, "process_resident_bytes")
    assert grown < memory, grown
    for metric in ("process_open_descriptors", "process_threads"):
        assert _level(after, metric) <= _level(before, metric) + 8, metric
    assert max(map(len, after)) <= max(map(len, before)) + 30
    assert max(map(len, after)) < 1500


def test_a_while_of_everything_leaves_memory_files_threads_and_series_flat(running: Running) -> None:
    answers, looks = _soak(running, 8.0, 4)
    assert answers.keys() <= {200, 404, 405}, answers
    assert answers[200] > 50
    # Caches still fill in the first seconds.
    _is_flat(looks, 60 * MEGABYTE)


@pytest.mark.trial
@pytest.mark.timeout(36_000)
def test_soak(running: Running) -> None:
    seconds = float(os.environ.get("PREDICTIVE_SCORING_SOAK") or 120)
    answers, looks = _soak(running, seconds, 8)
    memory = [_level([look], "process_resident_bytes") / MEGABYTE for look in looks]
    print(  # noqa: T201 - the finding
        f"{answers.total()} answers in {seconds:.0f} s, {dict(answers)}; {memory[9]:.0f} MB, then {memory[-1]:.0f} MB"
    )
    assert answers.keys() <= {200, 404, 405, 429}, answers
    _is_flat(looks, 20 * MEGABYTE)
