"""Readiness over HTTP: an ASGI application for load balancers, which any framework can mount."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core.embedded import Host

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_OK, _WRONG_METHOD, _UNAVAILABLE = 200, 405, 503


@dataclass(frozen=True)
class Healthz:
    """Responds with 200 if the registry is open and its embedded runner can reserve jobs, else with 503.

    This is readiness, not liveness: a runner whose store is unreachable recovers by itself, so do not restart the
    process. Without an embedded runner, an open registry is ready.

    The JSON body holds `status`, and for a runner `restarts` and `since_reserve` (seconds). With `errors` it also holds
    `last_error`, which may name hosts and users.

    Give it a route: `Route("/healthz", Healthz(jobs))`. Under a mount, `/healthz` redirects to `/healthz/`, and a probe
    that does not follow redirects takes that for success.
    """

    jobs: Jobs[Any]
    errors: bool = False

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
        is_ready, body = self.report()
        await _respond(send, _OK if is_ready else _UNAVAILABLE, body, has_body=scope["method"] == "GET")

    def report(self) -> tuple[bool, dict[str, object]]:
        """Return True if the application is ready, else False; and the content of the body."""
        host = runtime_of(self.jobs).host
        if not isinstance(host, Host):
            return False, {"status": "closed"}
        if host.runner is None:
            return True, {"status": "ready"}
        health = host.runner.health()
        since = None if health.since_reserve is None else round(health.since_reserve.total_seconds(), 3)
        body: dict[str, object] = {
            "status": "ready" if health.is_ready else "not ready",
            "restarts": health.restarts,
            "since_reserve": since,
        }
        if self.errors:
            body["last_error"] = health.runner.last_error or health.last_error
        return health.is_ready, body


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
