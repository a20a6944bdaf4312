"""The parent of several workers: starts them, restarts those that die, and passes signals on. It never runs a job.

Each worker is a new interpreter, not a fork, in a session of its own: Ctrl-C in a terminal reaches only the parent,
which passes it on once. When the parent dies, a pipe to each worker ends, and the worker drains.

The first worker starts alone: if it cannot start, none can, and one error message is enough.

A worker reports on another pipe that it is up, and that it has received the stop signal. If a signal ends it before
that second report, it was dying already or not listening yet, so it does not count as a worker that failed to stop.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from flowli_core._logger import logger
from flowli_core._pauses import pauses
from flowli_core.cli._common import exits
from flowli_core.cli._worker.parent_link import EXIT_AT, STOP_SIGNALS, STOPPING, UP, ParentLink

_SETTLED_AFTER = 30.0
"""A worker that has run for this many seconds is restarted after a short pause again."""


@dataclass(slots=True, eq=False)
class _Slot:
    """One of the numbered workers, through all its restarts."""

    number: int
    pauses: Iterator[float]
    process: subprocess.Popen[bytes] | None = None
    reports: int | None = None
    lifetime: int | None = None
    started_at: float | None = None
    start_at: float | None = None
    is_up: bool = False
    is_stopping: bool = False
    is_done: bool = False
    last_code: int = 0


class Parent:
    """Keeps `workers` processes of a command running, numbered from 0, until a signal or until all are done.

    With `reloads`, each changed file stops and restarts the workers; one that fails is restarted at the next change.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        workers: int,
        environ_of: Callable[[int], Mapping[str, str]],
        burst: bool = False,
        reloads: Callable[[threading.Event], Iterator[object]] | None = None,
    ) -> None:
        self._command = command
        self._environ_of = environ_of
        self._burst = burst
        self._reloads = reloads
        self._slots = [_Slot(number, pauses()) for number in range(workers)]
        self._was_up = False
        self._signals_received = 0
        self._last_signal = 0
        self._signals_passed_on = 0
        self._changes = 0
        self._changes_seen = 0
        self._woken, self._waker = socket.socketpair()
        self._ending = threading.Event()

    def run(self) -> int:
        """Run until all workers have ended, and return the exit code."""
        for end in (self._woken, self._waker):
            end.settimeout(0)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGCHLD, _do_nothing)  # the handler is needed for the wake-up
        if self._reloads is not None:
            threading.Thread(target=self._watch, args=(self._reloads,), name="flowli-reload", daemon=True).start()
        try:
            self._start(self._slots[0])
            while (code := self._exit_code()) is None:
                self._wait()
                self._update()
            return code
        finally:
            self._ending.set()
            for slot in self._slots:
                if slot.process is not None:
                    slot.process.kill()
                    slot.process.wait()
            signal.set_wakeup_fd(-1)
            for end in (self._woken, self._waker):
                end.close()

    def _exit_code(self) -> int | None:
        """Return the exit code, or None while there is something left to wait for."""
        if any(slot.process is not None for slot in self._slots):
            return None
        if self._signals_received:
            return next((_as_exit_code(slot.last_code) for slot in self._slots if slot.last_code), exits.DONE)
        if not self._was_up and self._reloads is None:
            return _as_exit_code(self._slots[0].last_code)
        return exits.DONE if all(slot.is_done for slot in self._slots) else None

    def _wait(self) -> None:
        """Wait for a signal, the end of a worker, a report, a changed file, or the time of a restart."""
        times = [slot.start_at for slot in self._slots if slot.start_at is not None and slot.process is None]
        timeout = max(min(times) - time.monotonic(), 0) if times else None
        reports = [slot.reports for slot in self._slots if slot.reports is not None]
        readable, _, _ = select.select([self._woken.fileno(), *reports], [], [], timeout)
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        for slot in self._slots:
            if slot.reports in readable:
                self._read_reports(slot)

    def _read_reports(self, slot: _Slot) -> None:
        if slot.reports is None:
            return
        try:
            words = os.read(slot.reports, 64)
        except BlockingIOError:
            return
        if not words:
            os.close(slot.reports)
            slot.reports = None
        slot.is_up = slot.is_up or UP in words
        slot.is_stopping = slot.is_stopping or STOPPING in words
        self._was_up = self._was_up or slot.is_up

    def _update(self) -> None:
        """Act on what happened during the wait."""
        has_changed, self._changes_seen = self._changes > self._changes_seen, self._changes
        is_reloading = has_changed and not self._signals_received
        for slot in self._slots:
            if slot.process is not None and slot.process.poll() is not None:
                self._on_ended(slot, slot.process.returncode)
            if is_reloading:
                if slot.process is not None:
                    slot.process.terminate()
                slot.start_at = time.monotonic()
        self._pass_signals_on()  # after noting which workers are dead
        if is_reloading:
            logger.info("the code has changed: restarting")
        for slot in self._slots:
            if self._signals_received or slot.process is not None:
                continue
            is_first_start = self._was_up and slot.started_at is None
            if is_first_start or (slot.start_at is not None and slot.start_at <= time.monotonic()):
                self._start(slot)

    def _start(self, slot: _Slot) -> None:
        reading, reports = os.pipe()
        lifetime, slot.lifetime = os.pipe()  # nothing is written to it: it ends when this process does
        try:
            slot.process = subprocess.Popen(  # noqa: S603 - our own command
                self._command,
                env={
                    **self._environ_of(slot.number),
                    **ParentLink.write(slot.number, reports=reports, lifetime=lifetime),
                },
                stdin=subprocess.DEVNULL,
                pass_fds=(reports, lifetime),
                start_new_session=True,
            )
        finally:
            os.close(reports)
            os.close(lifetime)
        os.set_blocking(reading, False)
        slot.reports, slot.is_up, slot.is_stopping = reading, False, False
        slot.started_at, slot.start_at = time.monotonic(), None
        logger.info("worker %d started, pid %d", slot.number, slot.process.pid)

    def _on_ended(self, slot: _Slot, code: int) -> None:
        slot.process, slot.last_code = None, code
        self._read_reports(slot)
        for end in (slot.reports, slot.lifetime):
            if end is not None:  # a process that a handler has forked may hold the other end
                os.close(end)
        slot.reports = slot.lifetime = None
        if self._signals_received:
            if code < 0 and not slot.is_stopping and self._signals_passed_on < EXIT_AT:
                slot.last_code = 0
                logger.warning("worker %d %s before it received the stop signal", slot.number, _describe_end(code))
            return
        if slot.start_at is None:
            self._plan_restart(slot, code)

    def _plan_restart(self, slot: _Slot, code: int) -> None:
        if self._burst and code == 0:
            slot.is_done = True
        elif self._reloads is not None:
            logger.warning("worker %d %s; waiting for a change of the code", slot.number, _describe_end(code))
        elif self._was_up:
            now = time.monotonic()
            if slot.started_at is not None and now - slot.started_at > _SETTLED_AFTER:
                slot.pauses = pauses()
            pause = next(slot.pauses)
            slot.start_at = now + pause
            logger.error("worker %d %s; restarting it in %.1f s", slot.number, _describe_end(code), pause)

    def _on_signal(self, number: int, _: object) -> None:
        self._signals_received += 1  # nothing else: the signal may come in the middle of anything
        self._last_signal = number

    def _pass_signals_on(self) -> None:
        while self._signals_passed_on < self._signals_received:
            self._signals_passed_on += 1
            passed_on = signal.SIGTERM if self._signals_passed_on < EXIT_AT else signal.SIGKILL
            running = [slot for slot in self._slots if slot.process is not None]
            received = signal.Signals(self._last_signal).name
            logger.info("received %s: sending %s to %d workers", received, passed_on.name, len(running))
            for slot in self._slots:
                if slot.process is not None:
                    slot.process.send_signal(passed_on)
                else:
                    slot.last_code = 0  # It failed before the stop. The exit code tells only how the stop went.

    def _watch(self, reloads: Callable[[threading.Event], Iterator[object]]) -> None:
        for _ in reloads(self._ending):
            self._changes += 1
            with contextlib.suppress(OSError):
                self._waker.send(b"c")


def _do_nothing(*_: object) -> None:
    pass


def _as_exit_code(code: int) -> int:
    """Return the code as a shell does: 128 + n for a process that signal n has ended."""
    return 128 - code if code < 0 else code


def _describe_end(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"exited with code {code}"
