"""More time for calls that carry many bytes: with one limit for all sizes, a large call would never succeed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable, Sequence

from flowli_core.driver import Cancelled, Completed, Step
from flowli_core.drivers.redis._clients._limits import extra_patience
from flowli_core.errors import StoreUnavailable
from flowli_core.new_records import NewRecord
from flowli_core.reports import Report
from flowli_core.targets import Target

_BYTES_PER_SECOND = 256 * 1024
"""The slowest network for which a call has enough time at its first try."""

_MOST_EXTRA = 60.0
_MOST_STEPS = 1000


class StepPatience:
    """The time limits of steps. Each time that a step ran out of time, it gets twice as much when it is sent again.

    The size of an answer is not known before it comes, and a step that is sent again gets the same one.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._extra: dict[tuple[str, bool, int], float] = {}

    @contextlib.contextmanager
    def limit(self, step: Step) -> Generator[None]:
        """Lengthen the time limit of a call in a `with` block by the time that this step needs."""
        key = (step.worker, step.wait is not None, step.sequence)
        extra = self._extra.pop(key, 0.0) if self._extra else 0.0
        own = min(extra + _seconds_for(_payload_sizes(step)), _MOST_EXTRA)
        started = time.monotonic()
        try:
            with _extra(own):
                yield
        except StoreUnavailable:
            if time.monotonic() - started >= self._seconds and len(self._extra) < _MOST_STEPS:
                self._extra[key] = min(2 * extra + self._seconds, _MOST_EXTRA)
            raise


def more_time_for(records: Sequence[NewRecord]) -> contextlib.AbstractContextManager[None]:
    """Lengthen the time limit of calls in a `with` block by the time that it takes to send these records."""
    return _extra(min(_seconds_for(len(record.input) + len(record.meta or b"") for record in records), _MOST_EXTRA))


def more_time_for_reports(reports: Sequence[Report]) -> contextlib.AbstractContextManager[None]:
    """Lengthen the time limit of calls in a `with` block by the time that it takes to send these reports."""
    return _extra(min(_seconds_for(_report_sizes(reports)), _MOST_EXTRA))


def more_time_for_targets(targets: Sequence[Target]) -> contextlib.AbstractContextManager[None]:
    """Lengthen the time limit of calls in a `with` block by the time that it takes to send the new attempts."""
    return _extra(min(_seconds_for(len(target.attempts or b"") for target in targets), _MOST_EXTRA))


def _report_sizes(reports: Sequence[Report]) -> Iterable[int]:
    for report in reports:
        yield len(report.progress or b"") + sum(map(len, report.log))


@contextlib.contextmanager
def _extra(seconds: float) -> Generator[None]:
    if not seconds:
        yield
        return
    token = extra_patience.set(seconds)
    try:
        yield
    finally:
        extra_patience.reset(token)


def _payload_sizes(step: Step) -> Iterable[int]:
    """Yield the size of each report, and of the result or the attempts in each ack."""
    yield from _report_sizes(step.reports)
    for ack in step.acks:
        outcome = ack.outcome
        if isinstance(outcome, Completed):
            yield len(outcome.result)
        elif not isinstance(outcome, Cancelled):
            yield len(outcome.attempts or b"")


def _seconds_for(sizes: Iterable[int]) -> float:
    return sum(sizes) / _BYTES_PER_SECOND
