"""One API worker: the BentoML service on a listening socket that the launcher owns.

    python -m serving.worker --fd 3 --number 1 --gate 5

The launcher (`predictive-scoring serve`) holds the socket, so requests wait, and are not refused, while a worker that
died is started again. A first SIGTERM makes the service unready, then drains it; see docs/operations.md.
"""

from __future__ import annotations

import argparse
import gc
import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before anything imports LightGBM: idle OpenMP threads would otherwise spin and slow every prediction.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .state import ServingState

GRACE_SECONDS = 20
"""How long requests under way may take to finish after a stop signal."""
DRAIN_SECONDS = 1.0
"""How long a stopping worker still accepts requests, unready: a balancer needs a moment to notice."""
DRAIN_VARIABLE = "PREDICTIVE_SCORING_DRAIN_SECONDS"
KEEP_ALIVE_SECONDS = 75
"""Longer than the reverse proxies' own (60), so that they, and not we, close an idle connection."""
MOST_CONNECTIONS = 1024
PATIENCE_SECONDS = 20.0
"""How long a worker that follows a dead one keeps requests waiting for its model; then it says that it has none."""


COLLECTOR = (10_000, 20, 50)
"""After how many new objects (and collections of the generation before) Python's collector runs. A request makes some
hundreds; by default it runs after 700."""


class Front:
    """HTTP goes straight to the application; everything else (its life) to BentoML, which mounted it.

    BentoML's own middleware would cost each request more than a millisecond and do nothing that ours does not.
    Until the launcher has opened the `gate` (the project's tables are in the store), only /livez is answered."""

    def __init__(self, http: ASGIApp, life: ASGIApp, gate: threading.Event) -> None:
        self.http, self.life, self.gate = http, life, gate
        self.stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.life(scope, receive, send)
            return
        if self.stopping:
            send = _closing(send)
        if not self.gate.is_set() and scope["path"] != "/livez":
            answer = _not_yet("The project's tables are being loaded into the store.")
        elif self.stopping and scope["path"] == "/readyz":
            answer = _not_yet("The service is stopping.")
        else:
            answer = self.http
        await answer(scope, receive, send)


def _not_yet(detail: str) -> ASGIApp:
    from .problems import Refused

    return Refused(
        "NotReady",
        detail,
        remedy="Ask again in a few seconds; /readyz answers 200 when it can score.",
        headers={"retry-after": "2"},
    ).response()


def _closing(send: Send) -> Send:
    """Ask the client to come back on another connection, which will be another worker's."""

    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"connection"]
            message = {**message, "headers": [*headers, (b"connection", b"close")]}
        await send(message)

    return closing


def main() -> None:
    """Serve until a signal; see the module."""
    options = argparse.ArgumentParser()
    options.add_argument("--fd", type=int, required=True)
    options.add_argument("--number", type=int, default=1)
    options.add_argument("--gate", type=int)
    chosen = options.parse_args()

    from predictive_scoring import logs

    from . import metrics, tracing

    logs.configure("service", worker=chosen.number)
    # Before the first counter is made.
    metrics.share(chosen.number)

    tracing.configure("service")
    gate = threading.Event()
    if chosen.gate is not None:
        threading.Thread(target=_wait_for, args=(chosen.gate, gate), name="gate", daemon=True).start()
    try:
        serve(chosen.fd, chosen.number, gate, is_first=chosen.gate is not None)
    finally:
        tracing.close()


def serve(descriptor: int, number: int, gate: threading.Event, *, is_first: bool) -> None:
    """Answer requests on the listening socket until SIGTERM or SIGINT.

    The first worker of its number answers probes at once. One that follows a worker that died takes no request before
    it can score: they wait in the socket's queue, or for another worker."""
    import uvicorn

    from .patience import Patience
    from .service import PredictiveScoring, app, state

    state.start()
    if is_first:
        threading.Thread(target=_tell_ready, args=(state, number), name="ready", daemon=True).start()
    else:
        if _wait_until_serving(state, PATIENCE_SECONDS):
            _spare_what_stays()
        gate.set()
    front = Front(app, PredictiveScoring.to_asgi(), gate)  # type: ignore[attr-defined]  # a bentoml.Service

    class Draining(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            if front.stopping:
                super().handle_exit(sig, frame)
                return
            front.stopping = state.stopping = True
            drain = float(os.environ.get(DRAIN_VARIABLE) or DRAIN_SECONDS)
            timer = threading.Timer(drain, self._end)
            timer.daemon = True
            timer.start()

        def _end(self) -> None:
            self.should_exit = True

    config = uvicorn.Config(
        front,
        http=Patience,
        log_config=None,
        access_log=False,
        server_header=False,
        # The application's proxy is configured, not guessed from headers that anybody may send.
        proxy_headers=False,
        backlog=2048,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        limit_concurrency=MOST_CONNECTIONS,
        lifespan="on",
    )
    Draining(config).run(sockets=[socket.socket(fileno=descriptor)])


def _wait_until_serving(state: ServingState, seconds: float) -> bool:
    """Whether there is a model, after at most so many seconds."""
    until = time.monotonic() + seconds
    while state.serving is None and time.monotonic() < until:
        time.sleep(0.02)
    return state.serving is not None


def _tell_ready(state: ServingState, number: int) -> None:
    """Leave a file for the launcher, which would otherwise ask one worker and believe all."""
    folder = os.environ.get("PREDICTIVE_SCORING_RUN")
    if _wait_until_serving(state, 3600):
        _spare_what_stays()
    if folder and state.serving is not None:
        (Path(folder) / f"api-{number}.ready").touch()


def _spare_what_stays() -> None:
    """Modules, application and model live as long as the process. Python's collector would go through them again and
    again, which is a fifth of the time that a request takes; from here on it looks at what is new, and less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR)


def _wait_for(descriptor: int, gate: threading.Event) -> None:
    # An end without a byte: the launcher died, and SIGTERM is on its way.
    if os.read(descriptor, 1):
        gate.set()
    os.close(descriptor)


if __name__ == "__main__":
    main()
