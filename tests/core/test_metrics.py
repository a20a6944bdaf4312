"""The calls of observers, and the Prometheus metrics made of them."""

from datetime import datetime

import pytest
from prometheus_client import CollectorRegistry

from flowli_core import DefinitionError, JobEvent, Jobs, Retry, Runner, StoreUnavailable, fixed
from flowli_core._running.hooks import EventKind
from flowli_core.history import MOST_HISTORY_JOBS, HistoryEntry, HistoryQuery
from flowli_core.metrics import PrometheusMetrics
from flowli_core.stored import RecordQuery, StoredRecord
from flowli_core.testing import ManualClock
from tests.conformance.builders import record
from tests.support.laned import LanedDriver, lanes_of
from tests.support.running import Rival, Work

LIMITS = ("tenant", "api", "report")


class CrawlJobs(Jobs[None]):
    """A registry without jobs."""


class Notes:
    """An observer that records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[EventKind, JobEvent]] = []

    def observe(self, kind: EventKind, event: JobEvent) -> None:
        self.calls.append((kind, event))


class Broken:
    """An observer that fails."""

    def observe(self, kind: EventKind, event: JobEvent) -> None:
        del kind, event
        raise RuntimeError("broken")


async def test_an_observer_is_called_for_each_start_and_end() -> None:
    work, notes = Work(), Notes()

    async def act(number: int) -> None:
        if number == 2:
            raise ValueError("no")

    work.deeds.act = act
    good, bad = await work.add(1, 2)
    await work.run(observers=[notes])
    assert [kind for kind, event in notes.calls if event.id == good] == ["started", "completed"]
    assert [kind for kind, event in notes.calls if event.id == bad] == ["started", "failed"]
    ends = [event for kind, event in notes.calls if kind != "started"]
    assert all(event.duration is not None for event in ends)


async def test_an_observer_that_fails_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    work, notes = Work(), Notes()
    (job_id,) = await work.add(1)
    counts = await work.run(observers=[Broken(), notes])
    assert counts.completed == 1
    assert [kind for kind, _ in notes.calls] == ["started", "completed"]
    assert f"an observer failed for job {job_id}" in caplog.text


async def test_prometheus_shows_counts_durations_retries_recoveries_and_lag() -> None:
    clock = ManualClock()
    work = Work(clock=clock)
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    await work.add(1)
    await Rival(work.driver.inner).step(want=1)
    clock.advance("1m")

    async def act(number: int) -> None:
        if number == 2:
            raise ValueError("no")

    work.deeds.act = act
    await work.jobs.act.options(retry=Retry(max_attempts=2, backoff=fixed("1h"))).enqueue(2)
    await work.run(observers=[metrics])
    await work.jobs.act.options(queue="elsewhere").enqueue(3)
    clock.advance("5m")
    await metrics.read_store(work.jobs)

    def sample(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    labels = {"job": "act", "queue": "default"}
    assert sample("flowli_attempts_total", **labels, outcome="completed") == 1
    assert sample("flowli_attempts_total", **labels, outcome="retried") == 1
    assert sample("flowli_attempt_seconds_count", **labels) == 2
    assert sample("flowli_recoveries_total", **labels) == 1
    assert sample("flowli_jobs", queue="default", state="scheduled") == 1
    assert sample("flowli_lag_seconds", queue="elsewhere") == 300
    assert sample("flowli_lag_seconds", queue="default") == 0
    kind, text = metrics.text()
    assert kind.startswith("text/plain")
    assert b"flowli_workers" in text


async def test_prometheus_shows_paused_queues() -> None:
    """Their jobs are not called unserved. Paused queues beyond the hundredth share a label."""
    work = Work(clock=ManualClock())
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    await work.driver.enqueue([record(queue=f"tenant-{number:03}") for number in range(100)])
    await work.driver.pause_queue("tenant-000", paused=True)
    await metrics.read_store(work.jobs)

    def sample(name: str, queue: str) -> float | None:
        return registry.get_sample_value(name, {"queue": queue})

    assert sample("flowli_queue_paused", "tenant-000") == 1
    assert sample("flowli_queue_paused", "tenant-001") == 0
    assert sample("flowli_unserved_jobs", "tenant-000") is None
    assert sample("flowli_unserved_jobs", "tenant-001") == 1
    await work.driver.pause_queue("empty", paused=True)
    await metrics.read_store(work.jobs)
    assert sample("flowli_queue_paused", "(others)") == 1


async def test_prometheus_counts_lanes_and_shows_the_deepest_of_each_limit() -> None:
    """No label has the value of a lane: there may be very many."""
    driver, registry = LanedDriver(), CollectorRegistry()
    driver.show(*lanes_of(driver.clock), count=1_204)
    metrics = PrometheusMetrics(registry)
    async with CrawlJobs(context=None, driver=driver) as jobs:
        await metrics.read_store(jobs)
        assert registry.get_sample_value("flowli_lanes") == 1_204
        depths = {limit: registry.get_sample_value("flowli_deepest_lane_jobs", {"limit": limit}) for limit in LIMITS}
        assert depths == {"tenant": 1_200, "api": 30, "report": 1}
        assert b"key-1" not in metrics.text()[1]
        driver.show()
        await metrics.read_store(jobs)
        assert registry.get_sample_value("flowli_lanes") == 0
        assert b"flowli_deepest_lane_jobs{" not in metrics.text()[1]


def test_an_invalid_observer_is_refused() -> None:
    work = Work()
    for wrong in (Notes, [print], "notes", [object()]):
        with pytest.raises(DefinitionError, match="observers must be a list"):
            Runner(work.jobs, observers=wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_prometheus_has_labels_for_a_hundred_queues() -> None:
    """The others share a label: their jobs are added up, and the longest lag counts."""
    clock = ManualClock()
    work = Work(clock=clock)
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    await work.driver.enqueue([record(queue="busy") for _ in range(2)])
    await work.driver.enqueue([record(queue=f"tenant-{number}") for number in range(199)])
    clock.advance("5m")
    await metrics.read_store(work.jobs)
    for number in range(200):
        event = JobEvent(id="a", name="act", queue=f"tenant-{number}", worker="w", attempt=1, recoveries=0)
        metrics.observe("completed", event)

    def sample(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert sample("flowli_jobs", queue="busy", state="queued") == 2
    assert sample("flowli_jobs", queue="(others)", state="queued") == 100
    assert sample("flowli_lag_seconds", queue="(others)") == 300
    assert sample("flowli_unserved_jobs", queue="(others)") == 100
    assert sample("flowli_attempts_total", job="act", queue="tenant-99", outcome="completed") == 1
    assert sample("flowli_attempts_total", job="act", queue="(others)", outcome="completed") == 100
    assert sample("flowli_jobs_enqueued_total", job="send_email", queue="busy") == 2
    assert sample("flowli_jobs_enqueued_total", job="send_email", queue="(others)") == 100
    assert metrics.text()[1].count(b"\nflowli_") < 6000


async def test_prometheus_shows_the_history_of_the_whole_store() -> None:
    """It counts what all workers have done. A bucket holds all durations up to its bound."""
    clock = ManualClock()
    work, registry = Work(clock=clock), CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    await work.add(1, 2)
    clock.advance("1500ms")
    await work.run()
    (last,) = await work.add(3)
    await work.jobs.control.cancel(last)
    await metrics.read_store(work.jobs)

    def sample(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"job": "act", "queue": "default", **labels})

    assert sample("flowli_jobs_enqueued_total") == 3
    assert [sample("flowli_jobs_finished_total", state=state) for state in ("completed", "failed", "cancelled")] == [
        2,
        0,
        1,
    ]
    assert sample("flowli_jobs_retried_total") == sample("flowli_jobs_recovered_total") == 0
    bounds = ("0.001", "1.024", "4.096", "67108.864", "+Inf")
    assert [sample("flowli_job_wait_seconds_bucket", le=bound) for bound in bounds] == [0, 0, 2, 2, 2]
    assert [sample("flowli_job_run_seconds_bucket", le=bound) for bound in bounds] == [2, 2, 2, 2, 2]


async def test_jobs_that_the_store_counts_together_share_a_label() -> None:
    """They are all pairs of job and queue beyond the limit of the history."""
    work, registry = Work(), CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    await work.driver.enqueue([record(name=f"job-{number}") for number in range(MOST_HISTORY_JOBS)])
    await work.driver.enqueue([record(name="one more"), record(name="another")])
    await metrics.read_store(work.jobs)
    labels = {"job": "(others)", "queue": "(others)"}
    assert registry.get_sample_value("flowli_jobs_enqueued_total", labels) == 2
    assert registry.get_sample_value("flowli_jobs_enqueued_total", {"job": "job-0", "queue": "q"}) == 1


async def test_a_history_that_cannot_be_read_leaves_all_metrics_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    work, metrics = Work(), PrometheusMetrics(CollectorRegistry())
    await work.add(1)
    await metrics.read_store(work.jobs)
    shown = metrics.text()
    await work.add(2)

    async def fail(query: HistoryQuery) -> tuple[datetime, list[HistoryEntry]]:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(work.driver, "history", fail)
    with pytest.raises(StoreUnavailable):
        await metrics.read_store(work.jobs)
    assert metrics.text() == shown


async def test_a_read_that_fails_half_way_changes_no_gauge(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work()
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    await work.driver.enqueue([record()])
    await metrics.read_store(work.jobs)
    shown = metrics.text()
    await work.driver.enqueue([record()])

    async def fail(query: RecordQuery) -> list[StoredRecord]:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(work.driver, "records", fail)
    with pytest.raises(StoreUnavailable):
        await metrics.read_store(work.jobs)
    assert metrics.text() == shown
