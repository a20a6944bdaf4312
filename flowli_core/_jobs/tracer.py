"""The part of tracing that calls and runs depend on; flowli_core.tracing implements it with OpenTelemetry."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from flowli_core._current import CurrentJob


class Tracer(Protocol):
    """What follows a job through processes. The trace is a line of bytes that only the tracer reads."""

    def enqueueing(self, name: str, records: Sequence[tuple[str, str]]) -> AbstractContextManager[bytes]:
        """Stand around the storing of these records of a job, each with its id and queue; give what they carry."""
        ...

    def running(self, job: CurrentJob, trace: bytes | None, /) -> AbstractContextManager[object]:
        """Stand around an execution whose record carries this trace; the handler's error passes through."""
        ...
