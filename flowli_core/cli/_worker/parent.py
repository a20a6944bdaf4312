"""The parent of several workers: starts them, starts dead ones again, passes signals on. It never runs a job itself.

Each worker is a new interpreter, not a fork, in a session of its own: a Ctrl-C in a terminal reaches the parent alone,
which passes it on once. A worker notices the end of its parent by the end of a pipe, and drains then.

The first worker is started alone: where it cannot start, nothing can, and its one line of complaint is enough.

A worker says on a pipe that it is up, and that it has heard the stop. One that a signal ended without that was dying
already as the stop came, or did not listen yet: it is no failure of the stop, however fast the one followed the other.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from flowli_core._pauses import pauses
from flowli_core.cli._common import exits

logger = logging.getLogger("flowli")

READY_VARIABLE = "FLOWLI_WORKER_READY"
"""Holds the number of a worker, and of the file descriptor on which it says how far it is."""

UP = b"u"
STOPPING = b"s"
"""What it says there: that it has started, and that it has heard a stop."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SETTLED_AFTER = 30.0
_AT_ONCE = 3


@dataclass(slots=True, eq=False)
class _Slot:
    """A place for one worker."""

    number: int
    pauses: Iterator[float]
    process: subprocess.Popen[bytes] | None = None
    ready: int | None = None
    started: float = 0.0
    start_at: float | None = None
    is_up: bool = False
    is_stopping: bool = False
    is_done: bool = False
    last_code: int = 0


class Parent:
    """Keeps `workers` processes of `command(number)` alive, numbered from 0, until a signal or until all are done.

    With `reloads` a changed file ends the workers in order and starts them again; one that fails waits for a change.
    """

    def __init__(
        self,
        command: Callable[[int], list[str]],
        *,
        workers: int,
        environ: Mapping[str, str],
        burst: bool = False,
        reloads: Callable[[threading.Event], Iterator[object]] | None = None,
    ) -> None:
        self._command = command
        self._environ = dict(environ)
        self._burst = burst
        self._reloads = reloads
        self._slots = [_Slot(number, pauses()) for number in range(workers)]
        self._is_up = False
        self._asked = 0
        self._told = 0
        self._changes = 0
        self._seen_changes = 0
        self._woken, self._waker = socket.socketpair()
        self._ending = threading.Event()

    def run(self) -> int:
        """Run to the end; answer the exit code."""
        for end in (self._woken, self._waker):
            end.settimeout(0)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGCHLD, _nothing)  # only so that it wakes
        if self._reloads is not None:
            threading.Thread(target=self._watch, args=(self._reloads,), name="flowli-reload", daemon=True).start()
        try:
            self._start(self._slots[0])
            while (code := self._code()) is None:
                self._wait()
                self._turn()
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

    def _code(self) -> int | None:
        """The exit code, once there is nothing left to wait for."""
        if any(slot.process is not None for slot in self._slots):
            return None
        if self._asked:
            return next((_plain(slot.last_code) for slot in self._slots if slot.last_code), exits.DONE)
        if not self._is_up and self._reloads is None:
            return _plain(self._slots[0].last_code)
        return exits.DONE if all(slot.is_done for slot in self._slots) else None

    def _wait(self) -> None:
        times = [slot.start_at for slot in self._slots if slot.start_at is not None and slot.process is None]
        timeout = max(min(times) - time.monotonic(), 0) if times else None
        ready = [slot.ready for slot in self._slots if slot.ready is not None]
        readable, _, _ = select.select([self._woken.fileno(), *ready], [], [], timeout)
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        for slot in self._slots:
            if slot.ready is not None and slot.ready in readable:
                self._hear(slot, slot.ready)

    def _hear(self, slot: _Slot, ready: int) -> None:
        """Take what a worker says; without a word, that it has ended."""
        try:
            said = os.read(ready, 64)
        except BlockingIOError:
            return
        if not said:
            os.close(ready)
            slot.ready = None
        slot.is_up = slot.is_up or UP in said
        slot.is_stopping = slot.is_stopping or STOPPING in said
        self._is_up = self._is_up or slot.is_up

    def _turn(self) -> None:
        has_changed, self._seen_changes = self._changes > self._seen_changes, self._changes
        for slot in self._slots:
            if slot.process is not None and slot.process.poll() is not None:
                self._ended(slot, slot.process.returncode)
            if has_changed and not self._asked:
                if slot.process is not None:
                    slot.process.terminate()
                slot.start_at = time.monotonic()
        self._pass_on()  # now that it is known who is dead already
        if has_changed and not self._asked:
            logger.info("the code has changed: starting again")
        for slot in self._slots:
            if self._asked or slot.process is not None:
                continue
            is_new = self._is_up and not slot.started
            if is_new or (slot.start_at is not None and slot.start_at <= time.monotonic()):
                self._start(slot)

    def _start(self, slot: _Slot) -> None:
        reading, writing = os.pipe()
        try:
            slot.process = subprocess.Popen(  # noqa: S603 - our own command
                self._command(slot.number),
                env=self._environ | {READY_VARIABLE: f"{slot.number}:{writing}"},
                stdin=subprocess.PIPE,  # never written to: it ends when this process does
                pass_fds=(writing,),
                start_new_session=True,
            )
        finally:
            os.close(writing)
        os.set_blocking(reading, False)
        slot.ready, slot.is_up, slot.is_stopping = reading, False, False
        slot.started, slot.start_at = time.monotonic(), None
        logger.info("worker %d has been started, pid %d", slot.number, slot.process.pid)

    def _ended(self, slot: _Slot, code: int) -> None:
        process, slot.process, slot.last_code = slot.process, None, code
        if process is not None and process.stdin is not None:
            process.stdin.close()
        if slot.ready is not None:
            self._hear(slot, slot.ready)
        if slot.ready is not None:  # a process that a handler has left behind may hold the other end
            os.close(slot.ready)
            slot.ready = None
        if self._asked and code < 0 and not slot.is_stopping and self._told < _AT_ONCE:
            slot.last_code = 0
            logger.warning("worker %d %s before it heard the stop", slot.number, _described(code))
        if self._asked or slot.start_at is not None:
            return
        if self._burst and code == 0:
            slot.is_done = True
        elif self._reloads is not None:
            logger.warning("worker %d %s; waiting for a change", slot.number, _described(code))
        elif self._is_up:
            now = time.monotonic()
            if now - slot.started > _SETTLED_AFTER:
                slot.pauses = pauses()
            pause = next(slot.pauses)
            slot.start_at = now + pause
            logger.error("worker %d %s; starting it again in %.1f s", slot.number, _described(code), pause)

    def _on_signal(self, *_: object) -> None:
        self._asked += 1  # and no more: it may come in the middle of anything

    def _pass_on(self) -> None:
        while self._told < self._asked:
            self._told += 1
            logger.info("told to stop: passing it on to the workers")
            for slot in self._slots:
                if slot.process is None:
                    slot.last_code = 0  # how it ended earlier is not how the stop went
                else:
                    slot.process.send_signal(signal.SIGTERM if self._told < _AT_ONCE else signal.SIGKILL)

    def _watch(self, reloads: Callable[[threading.Event], Iterator[object]]) -> None:
        for _ in reloads(self._ending):
            self._changes += 1
            with contextlib.suppress(OSError):
                self._waker.send(b"c")


def _nothing(*_: object) -> None:
    pass


def _plain(code: int) -> int:
    """The code as a shell gives it: a process that a signal has ended has a negative one."""
    return 128 - code if code < 0 else code


def _described(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"has ended with exit code {code}"
