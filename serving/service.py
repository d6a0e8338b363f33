"""The BentoML service: `bentoml serve serving.service:PredictiveScoring`, started by `predictive-scoring serve`.

BentoML brings process, worker and shutdown; every request is answered by the application in `app`. Nothing heavy
is imported here, because BentoML's supervisor imports this module too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from typing import Any, cast

# Before anything imports LightGBM: idle OpenMP threads would otherwise spin and slow every prediction.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send

from .admission import AdmissionSettings
from .app import create_app
from .state import ServingState

_PR_SET_PDEATHSIG = 1

state = ServingState.from_environment()
app = create_app(state, admission=AdmissionSettings.from_environment(os.environ))


class EveryRequest:
    """Answers every HTTP request by `answering`. BentoML's router would answer /livez, /readyz, /healthz,
    /schema.json and /docs.json itself, before it looks at a mounted application."""

    def __init__(self, app: ASGIApp, answering: ASGIApp) -> None:
        self.app, self.answering = app, answering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.answering if scope["type"] == "http" else self.app)(scope, receive, send)


@bentoml.service(
    name="predictive_scoring",
    workers=1,
    # Last resorts: the application's own limits (serving/limits.py) answer earlier, and with problems.
    traffic={"timeout": 120, "max_concurrency": 512},
    # Counted before any middleware and labelled by raw path, BentoML's metrics grow with every probe of a scanner.
    metrics={"enabled": False},
    # It would log raw paths, which hold lead ids.
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(app, path="/")
class PredictiveScoring:
    """Scores, reasons and next actions; see /docs. (Mounting the application runs its lifespan.)"""

    def __init__(self) -> None:
        # A killed supervisor would leave this worker alone with the port.
        _end_with_parent()


# The decorator turned the class into a service, which its type does not say.
cast("bentoml.Service[Any]", PredictiveScoring).add_asgi_middleware(EveryRequest, answering=app)


def _end_with_parent() -> None:
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        library: Any = ctypes.CDLL(None, use_errno=True)
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
