"""The health endpoint of a worker. It runs in a thread, so it also answers while the event loop is blocked.

/live     200 unless the event loop has been blocked for longer than the stall limit
/ready    200 while the runner runs and the store has answered it within the last 30 seconds
/metrics  metrics for Prometheus, if prometheus_client is installed
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from flowli_core._running.runner import Runner
from flowli_core.errors import FlowliError
from flowli_core.healthz import readiness

if TYPE_CHECKING:
    from flowli_core.metrics import PrometheusMetrics  # at run time it needs prometheus_client, which is optional

_LOOP_TIMEOUT = 1.0
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
        self._server = ThreadingHTTPServer((host, port), self._make_handler())
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return int(self._server.server_address[1])

    @contextmanager
    def serve(self, loop: asyncio.AbstractEventLoop, runner: Runner) -> Generator[None]:
        """Respond to requests about a runner on this loop while the `with` block runs."""
        self._loop, self._runner = loop, runner
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
        """Return the counters, with the depths of the queues if the store answers in time."""
        if self._metrics is None:
            return 501, _TEXT, b"metrics need prometheus_client: pip install flowli[metrics]\n"
        if self._loop is not None and self._runner is not None and self._measure_block() == 0:
            reading = asyncio.run_coroutine_threadsafe(self._metrics.read_store(self._runner.jobs), self._loop)
            try:
                reading.result(_LOOP_TIMEOUT)
            except (FlowliError, TimeoutError):
                reading.cancel()
        return (200, *self._metrics.text())

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

    def _make_handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                status, kind, text = answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing: probes come every few seconds."""

        return Handler
