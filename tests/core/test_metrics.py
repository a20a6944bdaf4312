"""The calls of observers, and the Prometheus metrics made of them."""

import pytest
from prometheus_client import CollectorRegistry

from flowli_core import DefinitionError, JobEvent, Retry, Runner, StoreUnavailable, fixed
from flowli_core._running.hooks import EventKind
from flowli_core.metrics import PrometheusMetrics
from flowli_core.stored import RecordQuery, StoredRecord
from flowli_core.testing import ManualClock
from tests.conformance.builders import record
from tests.support.running import Rival, Work


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
    assert metrics.text()[1].count(b"\nflowli_") < 2000


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
