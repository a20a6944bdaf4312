"""Readiness over HTTP: an ASGI application that any framework can mount, and any load balancer can ask."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowli_core._jobs.registry import Jobs, runtime_of
from flowli_core.embedded import Host

if TYPE_CHECKING:
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_OK, _WRONG_METHOD, _UNAVAILABLE = 200, 405, 503


@dataclass(frozen=True)
class Healthz:
    """Answers 200 while the application has its registry open and its embedded runner can reserve, and 503 otherwise.

    That is readiness, not liveness: a runner that cannot reach its store comes back by itself, so nothing is won by
    restarting the process. Without a runner in this process there is nothing that could fail. The body says `status`,
    and of a runner `restarts` and `since_reserve` (seconds). What ended it, or what the store has against it, may name
    hosts and users, and is told only where `errors` is set.

    Give it a route, `Route("/healthz", Healthz(jobs))`: below a mount, `/healthz` is redirected to `/healthz/`, which
    probes that follow no redirect take for well.
    """

    jobs: Jobs[Any]
    errors: bool = False

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        """Answer a request. A websocket is refused."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        if scope["type"] != "http":
            raise NotImplementedError(
                f"Healthz answers HTTP requests, not {scope['type']!r}; mount it in an application"
            )
        if scope["method"] not in {"GET", "HEAD"}:
            await _respond(send, _WRONG_METHOD, {"detail": "only GET and HEAD"}, headers=[(b"allow", b"GET, HEAD")])
            return
        is_ready, body = self.report()
        await _respond(send, _OK if is_ready else _UNAVAILABLE, body, is_shown=scope["method"] == "GET")

    def report(self) -> tuple[bool, dict[str, object]]:
        """Whether the application is ready, and what the body says."""
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
    is_shown: bool = True,
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
    await send({"type": "http.response.body", "body": content if is_shown else b""})
