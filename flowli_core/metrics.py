"""Prometheus metrics of jobs: `pip install flowli[metrics]`. `flowli worker --health-port` offers them by itself.

    metrics = PrometheusMetrics()
    runner = Runner(jobs, observers=[metrics])

They are registered where prometheus_client looks for them, or in the registry that is given: one for each registry.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from flowli_core._jobs.registry import Jobs
from flowli_core._running.hooks import Happening, JobEvent
from flowli_core.driver import STATES

_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800)


class PrometheusMetrics:
    """Counts what a runner does, and shows what is in the store as `read_store` last found it.

    `flowli_attempts_total` says how attempts ended (completed, failed, retried, released, cancelled, lost),
    `flowli_attempt_seconds` how long they took, `flowli_recoveries_total` how often a worker was lost. Of the store:
    `flowli_jobs` by queue and state, `flowli_lag_seconds` how long the first due job of a queue has waited, and
    `flowli_workers`.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._registry = registry
        labels = ("job", "queue")
        self._attempts = Counter("flowli_attempts", "Attempts that ended", (*labels, "outcome"), registry=registry)
        self._seconds = Histogram(
            "flowli_attempt_seconds", "Their duration", labels, registry=registry, buckets=_BUCKETS
        )
        self._recoveries = Counter("flowli_recoveries", "Leases of lost workers", labels, registry=registry)
        self._jobs = Gauge("flowli_jobs", "Stored jobs", ("queue", "state"), registry=registry)
        self._lag = Gauge("flowli_lag_seconds", "Wait of the first due job", ("queue",), registry=registry)
        self._workers = Gauge("flowli_workers", "Workers heard of within the last minute", registry=registry)

    def observe(self, what: Happening, event: JobEvent) -> None:
        """Take note of what happened."""
        if what == "recovered":
            self._recoveries.labels(event.name, event.queue).inc()
        elif what != "started":
            self._attempts.labels(event.name, event.queue, what).inc()
            if event.duration is not None:
                self._seconds.labels(event.name, event.queue).observe(event.duration.total_seconds())

    async def read_store(self, jobs: Jobs[Any]) -> None:
        """Look at what is in the store. Raises DriverError where that fails; the gauges keep what they had then."""
        counts = await jobs.inspect.get_queue_counts()
        activity = await jobs.inspect.get_activity()
        self._jobs.clear()
        self._lag.clear()
        for queue, of_queue in counts.by_queue.items():
            for state in STATES:
                self._jobs.labels(queue, state).set(getattr(of_queue, state))
            since = activity.oldest.get(queue, activity.now)
            self._lag.labels(queue).set((activity.now - since).total_seconds())
        self._workers.set(len(activity.workers))

    def text(self) -> tuple[str, bytes]:
        """All of the registry as Prometheus reads it: the content type, and the text."""
        return CONTENT_TYPE_LATEST, generate_latest(self._registry)
