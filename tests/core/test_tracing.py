"""OpenTelemetry spans: the trace of a call is stored in the record and continued by the worker."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from pydantic import BaseModel

from flowli_core import (
    Defaults,
    DefinitionError,
    Driver,
    Execution,
    Jobs,
    Proceed,
    Retry,
    Runner,
    fixed,
    job,
    run_sync,
)
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.drivers.sqlite import SqliteDriver
from flowli_core.new_records import NewRecord
from flowli_core.testing import ManualClock, drain
from flowli_core.tracing import OpenTelemetry
from tests.conformance.builders import step
from tests.support.store import find


class Meta(BaseModel):
    actor: str


@job(int, meta=Meta)
async def work(input: int, meta: Meta | None) -> str:
    if input < 0:
        raise ValueError("negative")
    return meta.actor if meta else "nobody"


class TracedJobs(Jobs[None]):
    work = work
    queues = ("other", "idle")


class Spans:
    """The spans that ended, and a tracer that makes them."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = OpenTelemetry(self.provider)

    def of(self, kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.kind is kind]


def id_of(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


@pytest.fixture
def spans() -> Spans:
    return Spans()


async def test_the_span_of_an_execution_is_a_child_of_the_span_of_its_call(spans: Spans, tmp_path: Path) -> None:
    """The worker is another registry on the same file, as in another process."""
    async with TracedJobs(context=None, driver=SqliteDriver(tmp_path / "jobs"), tracer=spans.tracer) as caller:
        with spans.provider.get_tracer("app").start_as_current_span("request") as request:
            receipt = await caller.work.enqueue(1, meta=Meta(actor="ada"))
    async with TracedJobs(context=None, driver=SqliteDriver(tmp_path / "jobs"), tracer=spans.tracer) as worker:
        await drain(worker)
        record = await worker.inspect.get_job(receipt.id)
    (producer,), (consumer,) = spans.of(SpanKind.PRODUCER), spans.of(SpanKind.CONSUMER)
    assert (producer.name, consumer.name) == ("send work", "process work")
    assert producer.parent is not None
    assert producer.parent.span_id == request.get_span_context().span_id
    assert consumer.parent is not None
    assert consumer.parent.span_id == consumer.links[0].context.span_id == id_of(producer)
    assert consumer.attributes is not None
    assert consumer.attributes["messaging.message.id"] == receipt.id
    assert record is not None
    assert (record.meta, record.result) == ({"actor": "ada"}, "ada")


async def test_an_error_is_on_the_span_of_its_execution(spans: Spans) -> None:
    async with TracedJobs(context=None, driver=MemoryDriver(), tracer=spans.tracer) as jobs:
        await jobs.work.enqueue(-1)
        await drain(jobs)
    (consumer,) = spans.of(SpanKind.CONSUMER)
    assert consumer.status.status_code is StatusCode.ERROR
    assert consumer.events[0].name == "exception"


@job(timeout="10ms")
async def hang() -> None:
    await asyncio.Event().wait()


@job()
async def answer() -> object:
    return object()


@job()
async def end() -> None:
    raise asyncio.CancelledError


@job()
async def read_baggage() -> dict[str, object]:
    return dict(baggage.get_all())


class OutcomeJobs(Jobs[None]):
    work = work
    hang = hang
    answer = answer
    end = end
    read_baggage = read_baggage


async def test_the_span_of_every_failed_attempt_has_an_error_and_its_outcome(spans: Spans) -> None:
    async with OutcomeJobs(context=None, driver=MemoryDriver(), tracer=spans.tracer) as jobs:
        once_more = Retry(max_attempts=2, backoff=fixed("1h"))
        await jobs.work.options(retry=once_more).enqueue(-1)
        for call in (jobs.hang, jobs.answer, jobs.end):
            await call.enqueue()
        await jobs.work.enqueue(1)
        await drain(jobs)
    found = {
        (span.name, span.status.status_code, span.attributes["flowli.outcome"], *(event.name for event in span.events))
        for span in spans.of(SpanKind.CONSUMER)
        if span.attributes is not None
    }
    assert found == {
        ("process work", StatusCode.ERROR, "retried", "exception"),
        ("process hang", StatusCode.ERROR, "failed", "exception"),
        ("process answer", StatusCode.ERROR, "failed", "exception"),
        ("process end", StatusCode.ERROR, "failed", "exception"),
        ("process work", StatusCode.UNSET, "completed"),
    }


async def test_the_loss_of_a_worker_is_a_span_in_the_trace_of_the_call(spans: Spans) -> None:
    """Also after the last recovery, when the job fails without another run."""
    clock = ManualClock()
    driver = MemoryDriver(clock=clock)
    defaults = Defaults(max_recoveries=1)
    async with TracedJobs(context=None, driver=driver, tracer=spans.tracer, defaults=defaults) as jobs:
        receipt = await jobs.work.enqueue(1)
        cancelled = await jobs.work.options(queue="other").enqueue(1)
        for number, queue in enumerate(("default", "default", "other")):
            await driver.step(step(f"dies {number}", queues=(queue,)))
            if queue == "other":
                await jobs.control.cancel(cancelled.id)
            clock.advance("1m")
            await Runner(jobs, queues=["idle"]).run_once()
    producer, recovered = spans.of(SpanKind.PRODUCER)[0], spans.of(SpanKind.CONSUMER)
    assert {span.name for span in recovered} == {"recover work"}
    found = [(span.status.status_code, dict(span.attributes or {})["flowli.outcome"]) for span in recovered]
    assert found == [(StatusCode.ERROR, "recovered"), (StatusCode.ERROR, "failed"), (StatusCode.UNSET, "cancelled")]
    for span, message in zip(recovered, ("has expired", "has expired 2 times"), strict=False):
        assert span.parent is not None
        assert span.parent.span_id == span.links[0].context.span_id == id_of(producer)
        assert dict(span.attributes or {})["messaging.message.id"] == receipt.id
        assert str(dict(span.events[0].attributes or {})["exception.message"]).endswith(message)


async def test_a_tracer_that_cannot_make_a_span_for_a_recovery_stops_no_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(OpenTelemetry):
        def recovered(self, *_: object) -> None:
            raise RuntimeError

    clock = ManualClock()
    driver = MemoryDriver(clock=clock)
    async with TracedJobs(context=None, driver=driver, tracer=Broken()) as jobs:
        await jobs.work.enqueue(1)
        await driver.step(step("dies", queues=("default",)))
        clock.advance("1m")
        assert (await drain(jobs)).completed == 1
    assert "the tracer failed" in caplog.text


async def test_the_baggage_of_the_call_reaches_the_handler_and_that_of_the_runner_does_not(spans: Spans) -> None:
    for tracer in (spans.tracer, None):
        async with OutcomeJobs(context=None, driver=MemoryDriver(), tracer=tracer) as jobs:
            token = context.attach(baggage.set_baggage("tenant", "acme"))
            called = await jobs.read_baggage.enqueue()
            context.detach(token)
            plain = await jobs.read_baggage.enqueue()
            token = context.attach(baggage.set_baggage("tenant", "runner"))
            await drain(jobs)
            context.detach(token)
            results = [await jobs.read_baggage.get(receipt) for receipt in (called, plain)]
        expected = {"tenant": "acme"} if tracer else {}
        assert [record and record.result for record in results] == [expected, {}]


async def test_a_tracer_that_fails_fails_no_job(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(OpenTelemetry):
        @contextmanager
        def running(self, *_: object) -> Generator[Any]:
            yield None

    async with OutcomeJobs(context=None, driver=MemoryDriver(), tracer=Broken()) as jobs:
        await jobs.work.enqueue(1)
        assert (await drain(jobs)).completed == 1
    assert "the tracer failed" in caplog.text


async def test_the_jobs_of_enqueue_many_share_one_producer_span(spans: Spans) -> None:
    async with TracedJobs(context=None, driver=MemoryDriver(), tracer=spans.tracer) as jobs:
        await jobs.work.enqueue_many([1, 2, 3])
        await drain(jobs)
    (producer,) = spans.of(SpanKind.PRODUCER)
    consumers = spans.of(SpanKind.CONSUMER)
    assert {span.parent and span.parent.span_id for span in consumers} == {id_of(producer)}
    assert len(consumers) == 3


async def test_traced_records_run_without_a_tracer_and_untraced_ones_with_it(spans: Spans) -> None:
    driver: Driver = MemoryDriver()
    async with (
        TracedJobs(context=None, driver=driver, tracer=spans.tracer) as traced,
        TracedJobs(context=None, driver=driver) as plain,
    ):
        for sender, runner, meta in ((traced, plain, "a"), (plain, traced, "b"), (traced, plain, None)):
            receipt = await sender.work.enqueue(1, meta=Meta(actor=meta) if meta else None)
            await drain(runner)
            record = await plain.inspect.get_job(receipt.id)
            assert record is not None
            assert record.result == (meta or "nobody")
            assert record.meta == ({"actor": meta} if meta else None)
    (consumer,) = spans.of(SpanKind.CONSUMER)
    assert consumer.parent is None


async def test_without_a_tracer_a_record_holds_no_trace() -> None:
    driver = MemoryDriver()
    async with TracedJobs(context=None, driver=driver) as jobs:
        receipt = await jobs.work.enqueue(1)
        stored = await find(driver, receipt.id)
    assert stored is not None
    assert stored.meta is None


@pytest.mark.parametrize(
    "trace",
    [b"[" * 50_000, b'{"a":' * 50_000, b"\xff", b'{"traceparent":"\\ud800"}', b'{"tracestate":%s}' % (b"9" * 5_000)],
)
async def test_a_damaged_trace_does_not_fail_its_job(spans: Spans, trace: bytes) -> None:
    driver = MemoryDriver()
    async with TracedJobs(context=None, driver=driver, tracer=spans.tracer) as jobs:
        receipt = await jobs.work.enqueue(1)
        stored = await find(driver, receipt.id)
        assert stored is not None
        damaged = NewRecord(
            id="d", name="work", queue="default", input=b"1", policy=stored.policy, meta=b"@%s\n" % trace
        )
        await driver.enqueue([damaged])
        assert (await drain(jobs)).completed == 2
    assert [consumer.parent for consumer in spans.of(SpanKind.CONSUMER)][1] is None


def test_an_invalid_tracer_is_refused() -> None:
    for wrong in (OpenTelemetry, "otel"):
        with pytest.raises(DefinitionError, match="tracer must be an OpenTelemetry"):
            TracedJobs(context=None, tracer=wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_middleware_runs_in_the_span_of_the_execution_and_sees_the_trace_of_the_call(spans: Spans) -> None:
    seen: list[tuple[int, bytes | None]] = []

    async def note(call: Execution, proceed: Proceed) -> object:
        seen.append((get_current_span().get_span_context().span_id, call.trace))
        return await proceed()

    jobs = TracedJobs(context=None, driver=MemoryDriver(), tracer=spans.tracer, middleware=[note])
    async with jobs:
        await jobs.work.enqueue(1, meta=Meta(actor="ada"))
        await drain(jobs)
    (producer,), (consumer,) = spans.of(SpanKind.PRODUCER), spans.of(SpanKind.CONSUMER)
    ((span_id, trace),) = seen
    assert span_id == id_of(consumer)
    assert trace is not None
    assert f"{id_of(producer):016x}" in trace.decode()


def test_a_call_by_run_sync_is_traced_as_part_of_its_caller(spans: Spans) -> None:
    jobs = TracedJobs(context=None, driver=MemoryDriver(), tracer=spans.tracer)
    with spans.provider.get_tracer("app").start_as_current_span("request") as request:
        run_sync(jobs.work.enqueue(1))
    (producer,) = spans.of(SpanKind.PRODUCER)
    assert producer.parent is not None
    assert producer.parent.span_id == request.get_span_context().span_id
