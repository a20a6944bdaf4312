"""OpenTelemetry spans of jobs: `pip install flowli[otel]`.

    jobs = AppJobs(context=..., driver=..., tracer=OpenTelemetry())

Enqueueing makes a producer span, and each execution a consumer span. In any process, the consumer span is a child of
the producer span, and linked to it. Names and attributes follow OpenTelemetry's conventions for messaging. The
application configures the export of spans.

The span of an execution has the outcome as its attribute `flowli.outcome`. If the attempt failed, for any reason,
the span has the status ERROR and records the type, message and traceback of the exception, as the conventions say. A
message may quote the input, so export spans only to where inputs may be seen.

A worker that dies ends no span. The worker that recovers its job makes a span for it, with the outcome `recovered` if
the job waits for another run, or `failed` if it was recovered too often.
"""

import functools
import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, cast

if find_spec("opentelemetry") is None:
    raise ModuleNotFoundError(
        "flowli_core.tracing needs OpenTelemetry: pip install 'flowli[otel]'", name="opentelemetry"
    )

from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, StatusCode
from pydantic_core import from_json

from flowli_core._current import CurrentJob
from flowli_core.driver import Recovered
from flowli_core.errors import LeaseLost

_SYSTEM = {"messaging.system": "flowli"}

_ReportOutcome = Callable[[str, BaseException | None], None]


class OpenTelemetry:
    """Makes spans with the given tracer provider, or with the application's global one."""

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("flowli", tracer_provider=provider)

    @contextmanager
    def enqueueing(self, name: str, records: Sequence[tuple[str, str]]) -> Generator[bytes]:
        """Make a producer span around the storing of records. Yield the trace to store in each record."""
        ids = [record_id for record_id, _ in records]
        attributes: dict[str, Any] = {**_SYSTEM, "messaging.operation.type": "send", "flowli.job": name}
        if len(ids) == 1:
            attributes |= {"messaging.message.id": ids[0], "messaging.destination.name": records[0][1]}
        else:
            attributes["messaging.batch.message_count"] = len(ids)
        with self._tracer.start_as_current_span(f"send {name}", kind=SpanKind.PRODUCER, attributes=attributes):
            carrier: dict[str, str] = {}
            propagate.inject(carrier)
            yield json.dumps(carrier, separators=(",", ":")).encode() if carrier else b""

    @contextmanager
    def running(self, job: CurrentJob, trace_: bytes | None, /) -> Generator[_ReportOutcome]:
        """Make a consumer span around an execution, in the context of the call: its baggage is that of the handler."""
        with self._span("process", job, trace_, {"flowli.attempt": job.attempt}) as span:
            yield functools.partial(_set_outcome, span)

    def recovered(self, recovered: Recovered, trace_: bytes | None, error: LeaseLost, /) -> None:
        """Make a consumer span without duration for an execution that was lost, in the context of the call."""
        with self._span("recover", recovered, trace_, {}) as span:
            _set_outcome(span, "recovered" if recovered.state == "queued" else recovered.state, error)

    @contextmanager
    def _span(
        self, operation: str, job: CurrentJob | Recovered, trace_: bytes | None, more: dict[str, Any]
    ) -> Generator[Span]:
        parent = propagate.extract(_carrier(trace_), context=Context())
        producer = trace.get_current_span(parent).get_span_context()
        attributes: dict[str, Any] = {
            **_SYSTEM,
            "messaging.operation.type": "settle" if operation == "recover" else operation,
            "messaging.message.id": job.id,
            "messaging.destination.name": job.queue,
            "flowli.job": job.name,
            "flowli.recoveries": job.recoveries,
            **more,
        }
        token = context.attach(parent)
        try:
            with self._tracer.start_as_current_span(
                f"{operation} {job.name}",
                kind=SpanKind.CONSUMER,
                attributes=attributes,
                links=[Link(producer)] if producer.is_valid else [],
            ) as span:
                yield span
        finally:
            context.detach(token)


def _set_outcome(span: Span, outcome: str, error: BaseException | None) -> None:
    span.set_attribute("flowli.outcome", outcome)
    if outcome not in ("failed", "retried", "recovered"):
        return
    kind = None if error is None else type(error).__qualname__
    span.set_status(StatusCode.ERROR, kind)
    if error is not None and kind is not None:
        span.set_attribute("error.type", kind)
        span.record_exception(error)


def _carrier(line: bytes | None) -> dict[str, str]:
    try:
        found: object = from_json(line or b"{}")
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(name): str(value) for name, value in cast("dict[object, object]", found).items()}
