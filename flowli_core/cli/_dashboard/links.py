"""Links that let a browser in, each of them once."""

import secrets
from collections.abc import Callable
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

_TOKEN = "token"  # noqa: S105 - the name of a parameter
_COOKIE = "flowli_dashboard"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src data:; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_REFUSAL = """<!doctype html>
<html lang="en">
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width">
  <link rel="icon" href="data:,">
  <title>Link needed</title>
  <main>
    <h1>This page opens with a link</h1>
    <p>Open the link that <code>flowli dashboard</code> has printed last in its terminal.
    <p>Each link works once. After that, the terminal shows a new one.
  </main>
</html>
"""


class LinkGate:
    """An application in front of another, which only a browser reaches that was opened with a link.

    A link holds a token. The first request with it exchanges it for a cookie of the browser, after which another link
    is announced. The application is mounted below a random path. `url` is that of the server, without a path.
    """

    def __init__(self, app: ASGIApp, *, url: str, announce: Callable[[str], None]) -> None:
        self._app = app
        self._url = url
        self._announce = announce
        self._session = secrets.token_urlsafe(32)
        # Browsers send the cookies of a host to all its ports, which may be servers of other users. A cookie of a path
        # that nobody else knows is sent to this server only.
        self._path = f"/{secrets.token_urlsafe(12)}/"
        self._renew()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        request = Request(scope)
        given = request.query_params.get(_TOKEN)
        if given is not None and request.method == "GET":
            await self._exchange(given, self._path_of(request))(scope, receive, send)
        elif self._admits(request):
            await self._app({**scope, "root_path": self._path_of(request).rstrip("/")}, receive, send)
        else:
            await _refuse()(scope, receive, send)

    def _path_of(self, request: Request) -> str:
        return f"{request.scope.get('root_path', '')}{self._path}"

    def _admits(self, request: Request) -> bool:
        is_inside = request.url.path.startswith(self._path_of(request))
        return is_inside and _is_same(request.cookies.get(_COOKIE, ""), self._session)

    def _exchange(self, token: str, path: str) -> Response:
        if not _is_same(token, self._token):
            return _refuse()
        self._renew()
        response = RedirectResponse(path, HTTPStatus.SEE_OTHER, _HEADERS)
        # Not "strict": the link may be opened from another page, such as a terminal in a browser.
        response.set_cookie(_COOKIE, self._session, path=path, httponly=True, samesite="lax")
        return response

    def _renew(self) -> None:
        self._token = secrets.token_urlsafe(32)
        self._announce(f"{self._url}{self._path}?{_TOKEN}={self._token}")


def _refuse() -> Response:
    return HTMLResponse(_REFUSAL, HTTPStatus.FORBIDDEN, _HEADERS)


def _is_same(given: str, secret: str) -> bool:
    return secrets.compare_digest(given.encode(), secret.encode())
