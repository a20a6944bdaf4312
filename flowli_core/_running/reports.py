"""Reports of running handlers: collecting them, and sending them to the store."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from flowli_core._logger import logger
from flowli_core._pauses import is_cancelled
from flowli_core._progress import LogLine, Progress
from flowli_core._wire.reports import pack_line, pack_progress
from flowli_core.driver import Driver, Lease
from flowli_core.durations import ZERO
from flowli_core.errors import StoreUnavailable
from flowli_core.limits import MOST_LOG_LINES
from flowli_core.reports import Report

_COALESCE = 0.05
"""Seconds between the first report and its heartbeat, so that one heartbeat carries the reports of many jobs."""

_INTERVAL = 1.0
"""The least seconds between two heartbeats that carry reports."""

_TIMEOUT = 5.0

_MOST_BYTES = 256 * 1024
"""A heartbeat carries at most this much of reports, unless there is only one. Halved if it fails."""


@dataclass(frozen=True, slots=True)
class Unsent:
    """A report to be sent, with the progress and the number of lines that it was made of."""

    report: Report
    progress: Progress | None
    count: int

    @property
    def size(self) -> int:
        """The size of the report in bytes."""
        return size_of(self.report)


class JobReports:
    """The progress and the log lines of one attempt that the store does not have yet. Any thread may call it.

    They stay here until the store has confirmed them. If a heartbeat fails, or is too late because the record is
    settled, they are sent again, and the store leaves out the lines that it has.
    """

    def __init__(self, lease: Lease, store_time: datetime) -> None:
        self._lease = lease
        self._offset = store_time - datetime.now(UTC)
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._lines: deque[LogLine] = deque(maxlen=MOST_LOG_LINES)
        self._count = 0
        """The number of lines so far."""

    def add(self, progress: Progress | None, lines: Sequence[LogLine]) -> None:
        """Replace the progress, unless None, and append the lines."""
        with self._lock:
            self._progress = self._progress if progress is None else progress
            self._lines.extend(lines)
            self._count += len(lines)

    def unsent(self) -> Unsent | None:
        """Return what the store does not have, or None."""
        with self._lock:
            progress, lines, count = self._progress, list(self._lines), self._count
        if progress is None and not lines:
            return None
        report = Report(
            self._lease.id,
            self._lease.token,
            None if progress is None else pack_progress(progress, self._offset),
            tuple([pack_line(line, self._offset) for line in lines]),
            count - len(lines),
        )
        return Unsent(report, progress, count)

    def confirm(self, sent: Unsent) -> None:
        """Forget what the store has now."""
        with self._lock:
            if self._progress is sent.progress:
                self._progress = None
            while len(self._lines) > self._count - sent.count:
                self._lines.popleft()


class ReportSender:
    """Sends the reports of running handlers with heartbeats: soon after the first, then at most once a second.

    These heartbeats renew no leases, so reports make no renewal longer or slower.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._is_signalled = False
        self._most_bytes = _MOST_BYTES
        self._is_refused = False

    def signal(self) -> None:
        """Note that there is something to send. Any thread may call it."""
        if self._is_signalled:
            return
        # Set the flag before reading `_loop`; `run` does the reverse, so one side always notices.
        self._is_signalled = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # The loop is closed: the run has ended.
                self._loop.call_soon_threadsafe(self._changed.set)

    async def run(self, driver: Driver, collect: Callable[[], Iterable[JobReports]]) -> None:
        """Send what `collect` returns whenever something was reported, until cancelled."""
        self._loop = asyncio.get_running_loop()
        if self._is_signalled:
            self._changed.set()
        while True:
            await self._changed.wait()
            await asyncio.sleep(_COALESCE)
            # Before collecting, so that what is reported meanwhile is sent next time.
            self._changed.clear()
            self._is_signalled = False
            try:
                await self._send(driver, collect())
            except (Exception, asyncio.CancelledError) as error:
                if is_cancelled(error):
                    raise
                self._note_failure(error)
                self._changed.set()
            await asyncio.sleep(_INTERVAL - _COALESCE)

    async def _send(self, driver: Driver, collected: Iterable[JobReports]) -> None:
        for batch in self._batches(collected):
            async with asyncio.timeout(_TIMEOUT):
                await driver.heartbeat(self._worker, [], ZERO, [sent.report for _, sent in batch])
            for reports, sent in batch:
                reports.confirm(sent)
            self._most_bytes = min(2 * self._most_bytes, _MOST_BYTES)
            self._is_refused = False

    def _batches(self, collected: Iterable[JobReports]) -> Iterator[list[tuple[JobReports, Unsent]]]:
        batch: list[tuple[JobReports, Unsent]] = []
        size = 0
        for reports in collected:
            unsent = reports.unsent()
            if unsent is None:
                continue
            if batch and size + unsent.size > self._most_bytes:
                yield batch
                batch, size = [], 0
            batch.append((reports, unsent))
            size += unsent.size
        if batch:
            yield batch

    def _note_failure(self, error: BaseException) -> None:
        """Log an error once, unless the renewing of leases logs it: it has the same if the store is unreachable."""
        self._most_bytes = max(self._most_bytes // 2, 1)
        if not self._is_refused and not isinstance(error, StoreUnavailable | TimeoutError | asyncio.CancelledError):
            self._is_refused = True
            logger.error(
                "worker %s: progress and log lines of jobs cannot be stored, retrying: %s", self._worker, error
            )


def size_of(report: Report) -> int:
    """Return the size of a report in bytes."""
    return len(report.progress or b"") + sum(map(len, report.log))
