"""What Prometheus reads at `/metrics`: bounded series only.

Labels are route templates, methods, statuses and names of our own making; a path or a lead id never becomes a label,
because every new value would make a new series. Several API workers count into one set of files that the launcher
made for them, so that each of them answers for all; what is read at the moment of asking (backlog, memory) is the
same whoever answers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import prometheus_client.values
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from .processes import ProcessUse, processes_in, use_of

CONTENT_TYPE = CONTENT_TYPE_LATEST
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
RUN_VARIABLE = "PREDICTIVE_SCORING_RUN"
"""The launcher's folder for what its processes share while they run."""


def share(worker: int) -> None:
    """Count into the launcher's folder, as this worker, from now on: a restarted worker goes on counting where the
    one before it stopped. Called before the first instrument is made; without a folder nothing changes."""
    folder = os.environ.get(RUN_VARIABLE)
    if folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        # By its number, not its process id: a service that restarts for years then has as many files as workers.
        prometheus_client.values.ValueClass = prometheus_client.values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call]  # untyped there


@dataclass(frozen=True)
class StoreNumbers:
    """What waits in the store. Ages are seconds; None: there is nothing of the kind."""

    backlog: int
    backlog_age: int | None
    outbox_waiting: int
    outbox_dead: int
    worker_age: int | None = None
    """Since the background worker was last heard of."""


@dataclass(frozen=True)
class Moment:
    """What is true while somebody asks. `model` is name, version and bundle; `store` None: it cannot be read."""

    ready: bool = False
    stopping: bool = False
    model: tuple[str, str, str] | None = None
    swaps: int = 0
    refused: bool = False
    """The newest champion is not served; the one before it goes on."""
    store: StoreNumbers | None = None


class Metrics:
    """The service's own registry and its instruments. `folder` is where several workers count."""

    def __init__(self, folder: Path | None = None) -> None:
        named = os.environ.get(RUN_VARIABLE)
        self.folder = folder or (Path(named) if named else None)
        self._shared = "PROMETHEUS_MULTIPROC_DIR" in os.environ and self.folder is not None
        # A creation time beside every counter would double the series.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped there
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "Answered HTTP requests", "method", "route", "status")
        self.refused = self._counter("refused", "Requests refused as a whole, by problem", "problem")
        self.seconds = self._histogram(
            "request_seconds",
            "Time from the first byte of a request to the last of its answer",
            (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
            "route",
        )
        self.leads = self._counter("leads", "Leads answered by /v1/score", "outcome")
        self.messages = self._counter("messages", "Messages told to /v1/events", "outcome")
        self.store_seconds = self._histogram(
            "store_seconds",
            "Transactions of the store, from their beginning to their end, waiting included",
            (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
            "kind",
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"predictive_scoring_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"predictive_scoring_{name}", text, labels, buckets=buckets, registry=self.registry)

    def ingested(self, accepted: int, duplicate: int, refused: int) -> None:
        """Count the messages of one request to /v1/events."""
        for outcome, number in (("accepted", accepted), ("duplicate", duplicate), ("refused", refused)):
            if number:
                self.messages.labels(outcome).inc(number)

    def refuse(self, problem: str) -> None:
        """Count a refusal by the name of its problem (`serving.problems.PROBLEMS`)."""
        self.refused.labels(problem).inc()

    def text(self, moment: Moment | None = None) -> bytes:
        """The exposition: what was counted by all workers, and what is true at this `moment`."""
        counted = self.registry
        if self._shared:
            counted = CollectorRegistry()
            MultiProcessCollector(counted, str(self.folder))  # type: ignore[no-untyped-call]  # untyped there
        looked = CollectorRegistry()
        looked.register(_Looked(moment or Moment(), self.folder))
        return generate_latest(counted) + generate_latest(looked)


class _Looked:
    """Everything that is read and not counted; made anew for each answer, so no series outlives its cause."""

    def __init__(self, moment: Moment, folder: Path | None) -> None:
        self.moment, self.folder = moment, folder

    def collect(self) -> Iterator[Metric]:
        moment = self.moment
        yield _gauge(
            "ready",
            "1 when a model is loaded and the service is not stopping",
            moment.ready and not moment.stopping,
        )
        model = GaugeMetricFamily(
            "predictive_scoring_model", "The model that serves", labels=("name", "version", "bundle")
        )
        if moment.model is not None:
            model.add_metric(moment.model, 1)
        yield model
        yield CounterMetricFamily(
            "predictive_scoring_swaps", "Times that the answering worker took up another model", moment.swaps
        )
        yield _gauge(
            "champion_refused",
            "1 while the newest champion is damaged and the one before serves",
            moment.refused,
        )
        yield _gauge(
            "store_reachable", "1 when the store answered while this was asked", moment.store is not None
        )
        if moment.store is not None:
            yield from _of_store(moment.store)
        yield from _of_processes(processes_in(self.folder))


def _of_store(numbers: StoreNumbers) -> Iterator[Metric]:
    yield _gauge("rescoring_backlog", "Leads that changed after their last score", numbers.backlog)
    yield _gauge(
        "rescoring_oldest_seconds",
        "Since when the first of them waits; 0: none does",
        numbers.backlog_age or 0,
    )
    yield _gauge("outbox_waiting", "Messages to others that are not delivered yet", numbers.outbox_waiting)
    yield _gauge("outbox_dead", "Messages to others that were given up", numbers.outbox_dead)
    if numbers.worker_age is not None:
        yield _gauge(
            "worker_heartbeat_age_seconds",
            "Since the background worker was last heard of; absent: never",
            numbers.worker_age,
        )


def _of_processes(processes: Iterable[tuple[str, int]]) -> Iterator[Metric]:
    names = ("process",)
    memory = GaugeMetricFamily("predictive_scoring_process_resident_bytes", "Memory in use", labels=names)
    seconds = CounterMetricFamily("predictive_scoring_process_cpu_seconds", "CPU time used", labels=names)
    opened = GaugeMetricFamily(
        "predictive_scoring_process_open_descriptors", "Files and sockets open", labels=names
    )
    threads = GaugeMetricFamily("predictive_scoring_process_threads", "Threads", labels=names)
    for name, number in processes:
        use: ProcessUse | None = use_of(number)
        if use is not None:
            memory.add_metric((name,), use.resident_bytes)
            seconds.add_metric((name,), use.cpu_seconds)
            opened.add_metric((name,), use.open_descriptors)
            threads.add_metric((name,), use.threads)
    yield from (memory, seconds, opened, threads)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"predictive_scoring_{name}", text, float(value))


SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'none'; object-src 'none'; base-uri 'none'; form-action 'self'; "
        b"frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    # Not `no-referrer`: a form would then come from the origin `null`, and we could not tell whose it is.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
