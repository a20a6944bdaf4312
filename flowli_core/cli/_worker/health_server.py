"""The health endpoint of a worker. It runs in a thread, so it also answers while the event loop is blocked.

/live     200 unless the event loop has been blocked for longer than the stall limit
/ready    200 while the runner runs and the store has answered it within the last 30 seconds
/metrics  metrics for Prometheus, if prometheus_client is installed
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from io import BufferedIOBase
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING, Any, cast

from flowli_core._logger import logger
from flowli_core._running.runner import Runner
from flowli_core.errors import FlowliError
from flowli_core.healthz import STUCK, readiness

if TYPE_CHECKING:
    from flowli_core.metrics import PrometheusMetrics  # at run time it needs prometheus_client, which is optional


MAX_CONNECTIONS = 16
"""The most open connections. One more ends the oldest whose request has not arrived, or is closed itself."""

REQUEST_SECONDS = 5.0
"""The time limit of a connection, from its start to the end of the response."""

_MAX_HEAD_BYTES = 16 * 1024
_METRICS_SECONDS = 1.0
"""Seconds between two reads of the store: a request before that gets the metrics of the last read."""

_LOOP_TIMEOUT = 1.0
STORE_SECONDS = 3.0
"""The time limit of a read of the store, which takes many calls if there are thousands of queues. It is less than
REQUEST_SECONDS."""

_TEXT = "text/plain; charset=utf-8"


class HealthServer:
    """An HTTP server for one runner. It listens once it is made; raises OSError if the port is taken."""

    def __init__(self, host: str, port: int, *, stall_limit: timedelta, metrics: PrometheusMetrics | None) -> None:
        self._stall_limit = stall_limit.total_seconds()
        self._metrics = metrics
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runner: Runner | None = None
        self._lock = threading.Lock()
        self._blocked_since: float | None = None
        self._metrics_lock = threading.Lock()
        self._metrics_text: tuple[str, bytes] = (_TEXT, b"")
        self._metrics_read_at: float | None = None
        self._server = _Server((host, port), self.answer)

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return int(self._server.server_address[1])

    @contextmanager
    def serve(self, loop: asyncio.AbstractEventLoop, runner: Runner) -> Generator[None]:
        """Respond to requests about a runner on this loop while the `with` block runs."""
        self._loop, self._runner = loop, runner
        if self._metrics is not None:
            self._metrics.watch_runner(runner)
        thread = threading.Thread(target=self._server.serve_forever, name="flowli-health", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return the status, content type and body for a path."""
        match path.partition("?")[0]:
            case "/live":
                blocked = self._measure_block()
                if self._runner is not None and self._runner.health().is_stuck:
                    return 503, _TEXT, f"{STUCK}\n".encode()
                if blocked <= self._stall_limit:
                    return 200, _TEXT, b"live\n"
                return 503, _TEXT, f"the event loop has been blocked for {blocked:.0f} s\n".encode()
            case "/ready":
                is_ready, body = readiness(None if self._runner is None else self._runner.health())
                return 200 if is_ready else 503, "application/json", json.dumps(body).encode()
            case "/metrics":
                return self._read_metrics()
            case _:
                return 404, _TEXT, b"/live, /ready or /metrics\n"

    def _read_metrics(self) -> tuple[int, str, bytes]:
        """Return the metrics of the last second, with the depths of the queues if the store answers in time."""
        if self._metrics is None:
            return 501, _TEXT, b"metrics need prometheus_client: pip install flowli[metrics]\n"
        with self._metrics_lock:
            read_at = self._metrics_read_at
            if read_at is None or time.monotonic() - read_at > _METRICS_SECONDS:
                self._read_store(self._metrics)
                self._metrics_text = self._metrics.text()
                self._metrics_read_at = time.monotonic()
            return (200, *self._metrics_text)

    def _read_store(self, metrics: PrometheusMetrics) -> None:
        if self._loop is None or self._runner is None or self._measure_block() > 0:
            return
        reading = asyncio.run_coroutine_threadsafe(metrics.read_store(self._runner.jobs), self._loop)
        try:
            reading.result(STORE_SECONDS)
        except (FlowliError, TimeoutError):
            reading.cancel()

    def _measure_block(self) -> float:
        """Return for how many seconds the event loop has been blocked: zero if it runs a callback within a second."""
        loop = self._loop
        if loop is None:
            return 0.0
        with self._lock:
            since = self._blocked_since
            if since is None:
                since = self._blocked_since = time.monotonic()
        has_run = threading.Event()

        def run() -> None:
            self._blocked_since = None
            has_run.set()

        try:
            loop.call_soon_threadsafe(run)
        except RuntimeError:  # the loop is closed: the process is ending
            return 0.0
        return 0.0 if has_run.wait(_LOOP_TIMEOUT) else time.monotonic() - since


_Answer = Callable[[str], tuple[int, str, bytes]]


class _Server(ThreadingTCPServer):
    """An HTTP server that a slow or hostile client cannot make take many threads, descriptors or much time."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], answer: _Answer) -> None:
        self.answer = answer
        self._guard = threading.Lock()
        self._deadlines: dict[socket.socket, float] = {}
        self._reading: dict[socket.socket, None] = {}
        """The connections whose request has not arrived, the oldest first."""
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(0.1)  # there may be no free descriptor: do not try again at once
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection in a thread of its own, unless there are too many."""
        with self._guard:
            if len(self._deadlines) >= MAX_CONNECTIONS:
                oldest = next(iter(self._reading), None)
                if oldest is None:
                    self.shutdown_request(request)
                    return
                self._abort(oldest)
            self._deadlines[request] = time.monotonic() + REQUEST_SECONDS
            self._reading[request] = None
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._forget(request)  # no thread could be started
            raise

    def note_arrived(self, request: socket.socket) -> None:
        """Note that the request of a connection has arrived."""
        with self._guard:
            self._reading.pop(request, None)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handle a connection. Called in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def service_actions(self) -> None:
        """End the connections whose time is over. Called twice a second."""
        now = time.monotonic()
        with self._guard:
            for request in [request for request, deadline in self._deadlines.items() if deadline < now]:
                self._abort(request)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the base class calls it
        """Log an error of a connection, which in most cases is a client that has hung up."""
        logger.debug("a request to the health port failed: %s", type(sys.exc_info()[1]).__name__)

    def _abort(self, request: socket.socket) -> None:
        """End a connection. Its thread, which may be reading or writing, closes it."""
        self._deadlines.pop(request, None)
        self._reading.pop(request, None)
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)

    def _forget(self, request: socket.socket) -> None:
        with self._guard:
            self._deadlines.pop(request, None)
            self._reading.pop(request, None)


class _Handler(BaseHTTPRequestHandler):
    def setup(self) -> None:
        super().setup()
        self.rfile: Any = _LimitedReader(self.rfile)

    def do_GET(self) -> None:
        server = cast("_Server", self.server)
        server.note_arrived(self.connection)
        status, kind, text = server.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_HEAD = do_GET  # noqa: N815

    def version_string(self) -> str:
        """Return the Server header, without versions."""
        return "flowli"

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: probes come every few seconds."""


class _LimitedReader:
    """The reader of a request, which ends after _MAX_HEAD_BYTES: http.server would read a head without an end."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        self._left = _MAX_HEAD_BYTES
        self.close = file.close  # http.server closes its reader with the connection

    @property
    def closed(self) -> bool:
        """True once the connection is closed."""
        return self._file.closed

    def readline(self, size: int) -> bytes:
        """Read a line, or a part of it."""
        line = self._file.readline(min(size, self._left))
        self._left -= len(line)
        return line
