"""Prometheus metrics of jobs: `pip install flowli[metrics]`. `flowli worker --health-port` serves them at /metrics.

    metrics = PrometheusMetrics()
    runner = Runner(jobs, observers=[metrics])

The metrics are registered in prometheus_client's default registry, or in the one that is passed. Make one
PrometheusMetrics per Prometheus registry.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from heapq import nlargest
from importlib.util import find_spec
from itertools import accumulate
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
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from flowli_core._jobs.history import Durations, HistoryNumbers, sum_entries
from flowli_core._jobs.outbox_state import OutboxState, read_outbox
from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._jobs.workers import to_workers, unserved_queues
from flowli_core._running.hooks import EventKind, JobEvent
from flowli_core._running.runner import Runner
from flowli_core.history import OTHERS, HistoryEntry, HistoryQuery
from flowli_core.stored import FINISHED, STATES

_OTHERS = "(others)"
"""The label of all queues beyond the first hundred, and of jobs that the store counts together. No queue or job can
have this name."""

_MOST_QUEUES = 100
_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800)
_LABELS = ("job", "queue")


class PrometheusMetrics:
    """Counts the attempts of a runner, and shows the state of the store as `read_store` last found it.

    These are of the runner: `flowli_attempts_total` by outcome (completed, failed, retried, released, cancelled, lost),
    `flowli_attempt_seconds` (duration), `flowli_recoveries_total` (expired leases that it recovered) and, after
    `watch_runner`, `flowli_hung_slots` (held by handlers that did not end when asked to).

    All others are of the store, so each worker shows the same: do not add them up over workers. `flowli_jobs` by
    queue and state, `flowli_lag_seconds` (how long the first due job of a queue has waited), `flowli_workers`
    (living ones), `flowli_queue_paused` (1 if a queue is paused, else 0), `flowli_unserved_jobs` (waiting in queues
    that no living worker serves) and `flowli_parked_jobs` (returned by the workers that met them, because they
    could not run them); the last two leave out paused queues. `flowli_lanes` counts the lanes with waiting jobs, and
    `flowli_deepest_lane_jobs` those that wait in the deepest lane of a limit, for the limits of the 20 deepest
    lanes. `flowli_outbox_jobs` wait in the outbox of the
    registry, the oldest for `flowli_outbox_age_seconds`; both are NaN if its database fails.
    `flowli_jobs_enqueued_total`, `flowli_jobs_finished_total` by state, `flowli_jobs_retried_total` and
    `flowli_jobs_recovered_total` count since the store was made, as do the histograms `flowli_job_wait_seconds`
    (from when a job was due until its handler started) and `flowli_job_run_seconds` (duration of handlers), which
    have no sum.

    There are labels for a hundred queues; the others share "(others)".
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._registry = registry
        self._runner_queues, self._store_queues = _QueueLabels(), _QueueLabels()
        self._attempts = Counter("flowli_attempts", "Attempts that ended", (*_LABELS, "outcome"), registry=registry)
        self._seconds = Histogram(
            "flowli_attempt_seconds", "Duration of attempts", _LABELS, registry=registry, buckets=_BUCKETS
        )
        self._recoveries = Counter("flowli_recoveries", "Expired leases recovered", _LABELS, registry=registry)
        self._jobs = Gauge("flowli_jobs", "Stored jobs", ("queue", "state"), registry=registry)
        self._lag = Gauge("flowli_lag_seconds", "How long the first due job has waited", ("queue",), registry=registry)
        self._paused = Gauge("flowli_queue_paused", "1 if the queue is paused", ("queue",), registry=registry)
        self._workers = Gauge("flowli_workers", "Living workers", registry=registry)
        self._unserved = Gauge(
            "flowli_unserved_jobs",
            "Jobs that wait in a queue that no living worker serves",
            ("queue",),
            registry=registry,
        )
        self._hung = Gauge("flowli_hung_slots", "Slots of handlers that did not end when asked to", registry=registry)
        self._outbox = Gauge("flowli_outbox_jobs", "Jobs that wait in the outbox", registry=registry)
        self._outbox_age = Gauge(
            "flowli_outbox_age_seconds", "How long the oldest job has waited in the outbox", registry=registry
        )
        self._parked = Gauge("flowli_parked_jobs", "Jobs that no worker could run so far", ("job",), registry=registry)
        self._lanes = Gauge("flowli_lanes", "Lanes with waiting jobs", registry=registry)
        self._deepest = Gauge(
            "flowli_deepest_lane_jobs", "Jobs that wait in the deepest lane of a limit", ("limit",), registry=registry
        )
        self._history = _HistoryCollector()
        registry.register(self._history)

    def observe(self, kind: EventKind, event: JobEvent) -> None:
        """Count an event. A Runner calls this: see `Observer`."""
        if kind == "recovered":
            self._recoveries.labels(event.name, self._runner_queues.label(event.queue)).inc()
        elif kind not in ("started", "expired"):
            queue = self._runner_queues.label(event.queue)
            self._attempts.labels(event.name, queue, kind).inc()
            if event.duration is not None:
                self._seconds.labels(event.name, queue).observe(event.duration.total_seconds())

    def watch_runner(self, runner: Runner) -> None:
        """Show the hung slots of a runner. `flowli worker` calls this for its own."""
        self._hung.set_function(lambda: runner.health().hung)

    async def read_store(self, jobs: Jobs[Any]) -> None:
        """Read the state and the history of the store. Raises DriverError; then no metric has changed."""
        overview = await jobs.inspect.get_overview()
        parked = await jobs.inspect.get_parked(overview)
        _, totals = await (await runtime_of(jobs).store()).history(HistoryQuery(resolution="total"))
        outbox = await read_outbox(jobs) or OutboxState()
        by_queue = overview.counts.by_queue
        paused = overview.paused
        sizes = dict.fromkeys(paused, 0) | {queue: some.queued + some.active for queue, some in by_queue.items()}
        shown = set(nlargest(_MOST_QUEUES, sizes, key=sizes.__getitem__))
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
        self._paused.clear()
        for label in {queue if queue in shown else _OTHERS for queue in sizes}:
            self._paused.labels(label).set(label in paused or (label == _OTHERS and not shown.issuperset(paused)))
        self._workers.set(sum(worker.is_alive for worker in workers))
        self._unserved.clear()
        for label, count in unserved.items():
            self._unserved.labels(label).set(count)
        self._outbox.set(outbox.count if outbox.error is None else math.nan)
        self._outbox_age.set(outbox.age.total_seconds() if outbox.error is None else math.nan)
        self._parked.clear()
        for one in parked:
            self._parked.labels(one.name).inc(one.count)
        self._lanes.set(overview.lane_count)
        self._deepest.clear()
        for lane in reversed(overview.lanes):  # the deepest comes last, and stays
            self._deepest.labels(lane.limit).set(lane.waiting)
        self._history.numbers = self._sum_by_label(totals)

    def _sum_by_label(self, totals: list[HistoryEntry]) -> dict[tuple[str, str], HistoryNumbers]:
        by_label = defaultdict[tuple[str, str], list[HistoryEntry]](list)
        for entry in sorted(totals, key=lambda entry: -entry.enqueued):  # the busiest queues get labels of their own
            is_other = entry.name == OTHERS
            by_label[(_OTHERS, _OTHERS) if is_other else (entry.name, self._store_queues.label(entry.queue))].append(
                entry
            )
        return {label: sum_entries(entries) for label, entries in by_label.items()}

    def text(self) -> tuple[str, bytes]:
        """Return the content type and the text of all metrics in the Prometheus registry."""
        return CONTENT_TYPE_LATEST, generate_latest(self._registry)


class _QueueLabels:
    """The labels of queues. The first hundred keep their names, because a counter must not decrease."""

    def __init__(self) -> None:
        self._named: set[str] = set()

    def label(self, queue: str) -> str:
        """Return the label of a queue."""
        if len(self._named) < _MOST_QUEUES:
            self._named.add(queue)
        return queue if queue in self._named else _OTHERS


class _HistoryCollector(Collector):
    """The counters and histograms of the store's history: each collection shows the numbers that were last read."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, str], HistoryNumbers] = {}

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        enqueued = CounterMetricFamily("flowli_jobs_enqueued", "Jobs that were enqueued", labels=_LABELS)
        finished = CounterMetricFamily("flowli_jobs_finished", "Jobs that finished", labels=(*_LABELS, "state"))
        retried = CounterMetricFamily("flowli_jobs_retried", "Attempts followed by another", labels=_LABELS)
        recovered = CounterMetricFamily("flowli_jobs_recovered", "Expired leases of the store", labels=_LABELS)
        waits = HistogramMetricFamily("flowli_job_wait_seconds", "Time from due to start", labels=_LABELS)
        runs = HistogramMetricFamily("flowli_job_run_seconds", "Duration of handlers", labels=_LABELS)
        for labels, numbers in self.numbers.items():
            enqueued.add_metric(labels, numbers.enqueued)
            for state in FINISHED:
                finished.add_metric((*labels, state), getattr(numbers, state))
            retried.add_metric(labels, numbers.retried)
            recovered.add_metric(labels, numbers.recovered)
            waits.add_metric(labels, _cumulate(numbers.waits), None)
            runs.add_metric(labels, _cumulate(numbers.runs), None)
        return enqueued, finished, retried, recovered, waits, runs


def _cumulate(durations: Durations) -> list[tuple[str, float]]:
    """Return every second bucket as Prometheus wants it: its upper bound in seconds, and the number of all up to it."""
    *below, count = accumulate(durations.counts)
    return [*[(str(2**bucket / 1000), below[bucket]) for bucket in range(0, len(below), 2)], ("+Inf", count)]
