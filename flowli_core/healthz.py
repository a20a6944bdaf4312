"""Readiness over HTTP: an ASGI application for load balancers, which any framework can mount."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core._jobs.runtime import Runtime
from flowli_core._running.runner import READY_WITHIN, Health
from flowli_core.durations import format_duration
from flowli_core.embedded import Host
from flowli_core.errors import FlowliError
from flowli_core.stored import RecordById

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_OK, _WRONG_METHOD, _UNAVAILABLE = 200, 405, 503
STUCK = "every slot is held by a handler that did not end when it was cancelled"
_ANSWER_WITHIN = timedelta(seconds=2)
_ANSWER_KEPT = 1.0


@dataclass
class _StoreProbe:
    """Asks the store whether it answers, at most once a second."""

    asked_at: float | None = None
    error: str | None = None

    async def ask(self, runtime: Runtime) -> str | None:
        """Return the error of the store, or None if it answers."""
        if self.asked_at is None or time.monotonic() - self.asked_at > _ANSWER_KEPT:
            try:
                async with asyncio.timeout(_ANSWER_WITHIN.total_seconds()):
                    await (await runtime.store()).records(RecordById("healthz"))
                self.error = None
            except TimeoutError:
                self.error = f"the store did not answer within {format_duration(_ANSWER_WITHIN)}"
            except FlowliError as error:
                self.error = f"{type(error).__name__}: {error}"
            self.asked_at = time.monotonic()
        return self.error


@dataclass(frozen=True)
class Healthz:
    """Responds with 200 if the registry is open and its embedded runner can reserve jobs, else with 503.

    This is readiness, not liveness: a runner whose store is unreachable recovers by itself, so do not restart the
    process. Without an embedded runner, the store is asked, at most once a second, and must answer within 2 seconds.

    The JSON body holds `status`, the `reason` if it is not ready, and for a runner `restarts` and `since_reserve`
    (seconds). With `errors` it also holds `last_error`, which may name hosts and users.

    Give it a route: `Route("/healthz", Healthz(jobs))`. Under a mount, `/healthz` redirects to `/healthz/`, and a probe
    that does not follow redirects takes that for success.
    """

    jobs: Jobs[Any]
    errors: bool = False
    _probe: _StoreProbe = field(default_factory=_StoreProbe, init=False, repr=False, compare=False)

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        """Respond to a GET or HEAD request. Refuse a websocket."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        if scope["type"] != "http":
            raise NotImplementedError(
                f"Healthz serves HTTP requests, not {scope['type']!r}; mount it in an application"
            )
        if scope["method"] not in {"GET", "HEAD"}:
            await _respond(send, _WRONG_METHOD, {"detail": "only GET and HEAD"}, headers=[(b"allow", b"GET, HEAD")])
            return
        is_ready, body = await self.report()
        await _respond(send, _OK if is_ready else _UNAVAILABLE, body, has_body=scope["method"] == "GET")

    async def report(self) -> tuple[bool, dict[str, object]]:
        """Return whether the application is ready, and the content of the response's body."""
        runtime = runtime_of(self.jobs)
        if not isinstance(runtime.host, Host):
            return False, {"status": "closed"}
        if runtime.host.runner is None:
            return await self._report_store(runtime)
        health = runtime.host.runner.health()
        is_ready, body = readiness(health.runner)
        body |= {"restarts": health.restarts, "since_reserve": _seconds(health.since_reserve)}
        if self.errors:
            body["last_error"] = health.runner.last_error or health.last_error
        return is_ready, body

    async def _report_store(self, runtime: Runtime) -> tuple[bool, dict[str, object]]:
        error = None if runtime.driver is None else await self._probe.ask(runtime)
        if error is None:
            return True, {"status": "ready"}
        body: dict[str, object] = {"status": "not ready", "reason": "the store does not answer"}
        if self.errors:
            body["last_error"] = error
        return False, body


def readiness(health: Health | None) -> tuple[bool, dict[str, object]]:
    """Return whether a runner is ready, and the body: `status`, `since_reserve`, and `reason` if it is not ready."""
    if health is not None and health.is_ready:
        return True, {"status": "ready", "since_reserve": _seconds(health.since_reserve)}
    if health is None or not health.is_running:
        reason = "the runner is not running"
    elif health.is_stuck:
        reason = STUCK
    elif health.last_error is not None:
        reason = "the last call to the store failed"
    else:
        reason = f"the store has not answered in the last {format_duration(READY_WITHIN)}"
    since = None if health is None else _seconds(health.since_reserve)
    return False, {"status": "not ready", "reason": reason, "since_reserve": since}


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else round(span.total_seconds(), 3)


async def _respond(
    send: Send,
    status: int,
    body: dict[str, object],
    *,
    has_body: bool = True,
    headers: list[tuple[bytes, bytes]] | None = None,
) -> None:
    content = json.dumps(body).encode()
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(content)).encode()),
                (b"cache-control", b"no-store"),
                *(headers or []),
            ],
        }
    )
    await send({"type": "http.response.body", "body": content if has_body else b""})
