"""The health endpoint of a worker, from a thread of its own: it also answers while the event loop is blocked.

/live     200 while the event loop turns, or has been silent for less than the stall limit
/ready    200 while the runner runs and its store has answered a reserve within the last 30 seconds
/metrics  Prometheus text, where prometheus_client is installed
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from flowli_core._running.runner import Runner
from flowli_core.errors import FlowliError
from flowli_core.metrics import PrometheusMetrics

_PATIENCE = 1.0
_TEXT = "text/plain; charset=utf-8"


class HealthServer:
    """Listens from the start, so that a port that is taken is an error then. Raises OSError."""

    def __init__(self, host: str, port: int, *, stall_limit: timedelta, metrics: PrometheusMetrics | None) -> None:
        self._stall_limit = stall_limit.total_seconds()
        self._metrics = metrics
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runner: Runner | None = None
        self._lock = threading.Lock()
        self._asked_at: float | None = None
        self._server = ThreadingHTTPServer((host, port), self._handler())
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @contextmanager
    def over(self, loop: asyncio.AbstractEventLoop, runner: Runner) -> Generator[None]:
        """Answer for a runner on this loop, while the code inside runs."""
        self._loop, self._runner = loop, runner
        thread = threading.Thread(target=self._server.serve_forever, name="flowli-health", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """What a request is answered: status, type, text."""
        match path.partition("?")[0]:
            case "/live":
                return self._live()
            case "/ready":
                return self._ready()
            case "/metrics":
                if self._metrics is None:
                    return 501, _TEXT, b"metrics need prometheus_client: pip install flowli[metrics]\n"
                return (200, *self._metrics_text(self._metrics))
            case _:
                return 404, _TEXT, b"/live, /ready or /metrics\n"

    def _metrics_text(self, metrics: PrometheusMetrics) -> tuple[str, bytes]:
        """What was counted, with what the store says now; without, where it cannot be asked in time."""
        if self._loop is not None and self._runner is not None and self._silence() == 0:
            asked = asyncio.run_coroutine_threadsafe(metrics.read_store(self._runner.jobs), self._loop)
            try:
                asked.result(_PATIENCE)
            except (FlowliError, TimeoutError):
                asked.cancel()
        return metrics.text()

    def _live(self) -> tuple[int, str, bytes]:
        silent = self._silence()
        if silent > self._stall_limit:
            return 503, _TEXT, f"the event loop has been blocked for {silent:.0f} s\n".encode()
        return 200, _TEXT, b"live\n"

    def _ready(self) -> tuple[int, str, bytes]:
        health = None if self._runner is None else self._runner.health()
        if health is not None and health.is_ready:
            return 200, _TEXT, b"ready\n"
        if health is None or not health.is_running:
            why = "the runner does not run"
        elif health.last_error is not None:
            why = "the store does not answer"
        else:
            why = "the store has not answered lately"
        return 503, _TEXT, f"not ready: {why}\n".encode()

    def _silence(self) -> float:
        """Ask the loop whether it turns; answer for how many seconds it has not, zero where it does."""
        loop = self._loop
        if loop is None:
            return 0.0
        with self._lock:
            asked = self._asked_at
            if asked is None:
                asked = self._asked_at = time.monotonic()
        turned = threading.Event()

        def turn() -> None:
            self._asked_at = None
            turned.set()

        try:
            loop.call_soon_threadsafe(turn)
        except RuntimeError:  # closed: this is the end of the process
            return 0.0
        return 0.0 if turned.wait(_PATIENCE) else time.monotonic() - asked

    def _handler(self) -> type[BaseHTTPRequestHandler]:
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
                """Say nothing: probes come every few seconds."""

        return Handler
