"""Prometheus metrics of jobs: `pip install flowli[metrics]`. `flowli worker --health-port` serves them at /metrics.

    metrics = PrometheusMetrics()
    runner = Runner(jobs, observers=[metrics])

The metrics are registered in prometheus_client's default registry, or in the one that is passed. Make one
PrometheusMetrics per Prometheus registry.
"""

from collections import defaultdict
from heapq import nlargest
from importlib.util import find_spec
from typing import Any

if find_spec("prometheus_client") is None:
    raise ModuleNotFoundError(
        "flowli_core.metrics needs prometheus_client: pip install 'flowli[metrics]'", name="prometheus_client"
    )

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
from flowli_core._jobs.workers import to_workers, unserved_queues
from flowli_core._running.hooks import EventKind, JobEvent
from flowli_core._running.runner import Runner
from flowli_core.stored import STATES

_OTHERS = "(others)"
"""The label of all queues beyond the first hundred. No queue can have this name."""

_MOST_QUEUES = 100
_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800)


class PrometheusMetrics:
    """Counts the attempts of a runner, and shows the state of the store as `read_store` last found it.

    After `watch_runner`, `flowli_hung_slots` is the number of slots held by handlers that did not end when asked to.

    The runner counts `flowli_attempts_total` by outcome (completed, failed, retried, released, cancelled, lost),
    `flowli_attempt_seconds` (duration), and `flowli_recoveries_total` (expired leases that were recovered). The store
    gives `flowli_jobs` by queue and state, `flowli_lag_seconds` (how long the first due job of a queue has waited),
    `flowli_workers` (living ones), `flowli_unserved_jobs` (waiting in queues that no living worker serves) and
    `flowli_parked_jobs` (returned by the workers that met them, because they could not run them). There are labels for
    a hundred queues; the others share "(others)".
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._registry = registry
        self._counted: set[str] = set()
        labels = ("job", "queue")
        self._attempts = Counter("flowli_attempts", "Attempts that ended", (*labels, "outcome"), registry=registry)
        self._seconds = Histogram(
            "flowli_attempt_seconds", "Duration of attempts", labels, registry=registry, buckets=_BUCKETS
        )
        self._recoveries = Counter("flowli_recoveries", "Expired leases recovered", labels, registry=registry)
        self._jobs = Gauge("flowli_jobs", "Stored jobs", ("queue", "state"), registry=registry)
        self._lag = Gauge("flowli_lag_seconds", "How long the first due job has waited", ("queue",), registry=registry)
        self._workers = Gauge("flowli_workers", "Living workers", registry=registry)
        self._unserved = Gauge(
            "flowli_unserved_jobs",
            "Jobs that wait in a queue that no living worker serves",
            ("queue",),
            registry=registry,
        )
        self._hung = Gauge("flowli_hung_slots", "Slots of handlers that did not end when asked to", registry=registry)
        self._parked = Gauge("flowli_parked_jobs", "Jobs that no worker could run so far", ("job",), registry=registry)

    def observe(self, kind: EventKind, event: JobEvent) -> None:
        """Count an event. A Runner calls this: see `Observer`."""
        if kind == "recovered":
            self._recoveries.labels(event.name, self._label(event.queue)).inc()
        elif kind != "started":
            queue = self._label(event.queue)
            self._attempts.labels(event.name, queue, kind).inc()
            if event.duration is not None:
                self._seconds.labels(event.name, queue).observe(event.duration.total_seconds())

    def watch_runner(self, runner: Runner) -> None:
        """Show the hung slots of a runner. `flowli worker` calls this for its own."""
        self._hung.set_function(lambda: runner.health().hung)

    async def read_store(self, jobs: Jobs[Any]) -> None:
        """Read the state of the store into the gauges. Raises DriverError; then the gauges are unchanged."""
        overview = await jobs.inspect.get_overview()
        parked = await jobs.inspect.get_parked(overview)
        by_queue = overview.counts.by_queue
        shown = set(nlargest(_MOST_QUEUES, by_queue, key=lambda queue: by_queue[queue].queued + by_queue[queue].active))
        workers = to_workers(overview)
        # Sums of numbers first: with thousands of queues, a call of the library for each would block the event loop.
        counts, unserved = defaultdict[tuple[str, str], int](int), defaultdict[str, int](int)
        lags = defaultdict[str, float](float)
        for queue, queue_counts in by_queue.items():
            label = queue if queue in shown else _OTHERS
            for state in STATES:
                counts[label, state] += getattr(queue_counts, state)
            since = overview.oldest.get(queue, overview.now)
            lags[label] = max(lags[label], (overview.now - since).total_seconds())
        for queue, count in unserved_queues(overview, workers).items():
            unserved[queue if queue in shown else _OTHERS] += count
        self._jobs.clear()
        for labels, count in counts.items():
            self._jobs.labels(*labels).set(count)
        self._lag.clear()
        for label, seconds in lags.items():
            self._lag.labels(label).set(seconds)
        self._workers.set(sum(worker.is_alive for worker in workers))
        self._unserved.clear()
        for label, count in unserved.items():
            self._unserved.labels(label).set(count)
        self._parked.clear()
        for one in parked:
            self._parked.labels(one.name).inc(one.count)

    def _label(self, queue: str) -> str:
        if len(self._counted) < _MOST_QUEUES:
            self._counted.add(queue)
        return queue if queue in self._counted else _OTHERS

    def text(self) -> tuple[str, bytes]:
        """Return the content type and the text of all metrics in the Prometheus registry."""
        return CONTENT_TYPE_LATEST, generate_latest(self._registry)
