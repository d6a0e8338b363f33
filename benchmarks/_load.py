"""The load of the serving benchmark, a process of its own: `python benchmarks/_load.py`, a job on stdin.

Closed loop over kept-alive connections: each sends its next request when the answer to the one before is there whole.
One thread over plain sockets, so that little of the machine goes to the measuring. The job is JSON: `port`, `path`,
`bodies` (a file, one JSON body a line, sent in turn; `once`: not again from the first; `get`: each line is the end of
an address to GET), `connections`, `warmup` and `seconds` (or `requests`). The answer is one JSON line: requests,
seconds, the latencies in milliseconds as percentiles, and the body of one answer. An answer that is not 200 ends it.
"""

from __future__ import annotations

import itertools
import json
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HEAD_END = b"\r\n\r\n"


def request(path: str, body: bytes, get: bool) -> bytes:
    """The bytes of a POST, or of a GET of the path and what the line adds to it."""
    if get:
        return f"GET {path}{body.decode()} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    head += f"content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@dataclass
class Connection:
    """One kept-alive connection with at most one request under way."""

    port: int
    socket: socket.socket = field(init=False)
    received: bytearray = field(default_factory=bytearray)
    wanted: int = 0
    """Bytes of the whole answer; 0 until its head is there."""
    sent_at: float = 0.0

    def __post_init__(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, message: bytes) -> None:
        self.received.clear()
        self.wanted = 0
        self.sent_at = time.perf_counter()
        self.socket.sendall(message)

    def receive(self) -> bool:
        """Read what is there; whether the answer is whole now. Raises RuntimeError for one that is not 200."""
        piece = self.socket.recv(1 << 18)
        if not piece:
            raise RuntimeError("the connection was closed before the answer")
        self.received += piece
        if not self.wanted:
            end = self.received.find(HEAD_END)
            if end < 0:
                return False
            head = bytes(self.received[:end]).lower()
            if not head.startswith(b"http/1.1 200"):
                raise RuntimeError(f"answered {bytes(self.received[:600])!r}")
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            self.wanted = end + len(HEAD_END) + int(length)
        return len(self.received) >= self.wanted


def run(connections: list[Connection], messages: Iterator[bytes], until: float, most: int) -> list[float]:
    """Latencies in seconds of the requests answered before `until` (perf_counter), at most about `most`."""
    taken: list[float] = []
    with selectors.DefaultSelector() as selector:
        for one in connections:
            selector.register(one.socket, selectors.EVENT_READ, one)
            one.send(next(messages))
        under_way = len(connections)
        while under_way:
            for key, _ in selector.select():
                one = key.data
                if not one.receive():
                    continue
                now = time.perf_counter()
                taken.append(now - one.sent_at)
                if now < until and len(taken) + under_way <= most:
                    one.send(next(messages))
                else:
                    under_way -= 1
    return taken


def percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> None:
    """Do the job on stdin."""
    job: dict[str, Any] = json.load(sys.stdin)
    bodies = Path(job["bodies"]).read_bytes().splitlines()
    ready = [request(job["path"], body, job.get("get", False)) for body in bodies]
    messages: Iterator[bytes] = iter(ready) if job.get("once") else itertools.cycle(ready)
    connections = [Connection(job["port"]) for _ in range(job.get("connections", 1))]
    most = job.get("requests") or 10**9
    if job.get("warmup"):
        run(connections, messages, time.perf_counter() + job["warmup"], 10**9)
    began = time.perf_counter()
    taken = run(connections, messages, began + job.get("seconds", 3600), most)
    seconds = time.perf_counter() - began
    ordered = sorted(1000 * one for one in taken)
    answer = {"requests": len(taken), "seconds": seconds, "per_second": len(taken) / seconds}
    answer |= {f"p{share}": percentile(ordered, share / 100) for share in (50, 90, 99)}
    answer["answer"] = connections[0].received[-connections[0].wanted :].partition(HEAD_END)[2].decode()
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
