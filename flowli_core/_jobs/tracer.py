"""The tracing interface that calls and runs use. `flowli_core.tracing` implements it with OpenTelemetry."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from flowli_core._current import CurrentJob
from flowli_core.driver import Recovered
from flowli_core.errors import LeaseLost

ReportOutcome = Callable[[str, BaseException | None], None]
"""Takes the outcome of a run (completed, failed, retried, released, cancelled or lost), and its error if it failed."""


class Tracer(Protocol):
    """Links the span of each run to the span of the call that enqueued it. Only the tracer reads a trace."""

    def enqueueing(self, name: str, records: Sequence[tuple[str, str]]) -> AbstractContextManager[bytes]:
        """Open a span around the storing of records of a job, given as (id, queue). The value is the trace to store."""
        ...

    def running(self, job: CurrentJob, trace: bytes | None, /) -> AbstractContextManager[ReportOutcome]:
        """Open a span around a run whose record carries this trace. The value takes its outcome, before the end."""
        ...

    def recovered(self, recovered: Recovered, trace: bytes | None, error: LeaseLost, /) -> None:
        """Make a span for a lost run: its worker died, and a step recovered the record, which carries this trace."""
        ...
