"""Authorization of clients, and the checks that a form was sent from a page of this dashboard."""

import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from inspect import isawaitable
from typing import Literal
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from flowli_core._logger import logger
from flowli_core.errors import DefinitionError

Action = Literal["view", "payloads", "act"]
"""view: see the pages. payloads: see inputs, results, errors and logs. act: change jobs, queues and schedules."""

Authorize = Callable[[Request, Action], bool | str | Awaitable[bool | str]]
"""Decides if the client of a request may do this: True, False, or a name, which allows it and goes into the log.

It is called on the event loop, once for each action that a page depends on. It may raise an HTTPException of Starlette,
such as one that redirects to a login.
"""

CSRF_COOKIE = "flowli_csrf"
CSRF_FIELD = "csrf"

_MOST_BODY = 64 * 1024
_FORM = "application/x-www-form-urlencoded"
_TOKEN_BYTES = 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """The client of a request, with its permissions."""

    name: str
    sees_payloads: bool
    may_act: bool


class Access:
    """Admits clients to pages and actions. A client that is refused gets an HTTPException."""

    def __init__(self, authorize: Authorize | None, *, read_only: bool, show_payloads: bool) -> None:
        self._authorize = authorize
        self._read_only = read_only
        self._show_payloads = show_payloads

    async def admit(self, request: Request) -> Viewer:
        """Return the client, if it may see pages."""
        return Viewer(
            name=await self._require(request, "view"),
            sees_payloads=self._show_payloads and await self._may(request, "payloads"),
            may_act=not self._read_only and await self._may(request, "act"),
        )

    async def admit_form(self, request: Request) -> tuple[str, dict[str, str]]:
        """Return the name of the client and the fields of its form, if it may change something."""
        if self._read_only:
            raise _refused("this dashboard is read-only")
        check_same_origin(request)
        await self._require(request, "view")
        name = await self._require(request, "act")
        form = await read_form(request)
        check_token(request, form)
        return name, form

    async def _require(self, request: Request, action: Action) -> str:
        name = await self._ask(request, action)
        if name is None:
            logger.warning("dashboard: refused %s to %s", action, _name_of(request))
            raise _refused("you may not see this page" if action == "view" else "you may not change anything here")
        return name

    async def _may(self, request: Request, action: Action) -> bool:
        try:
            return await self._ask(request, action) is not None
        except HTTPException:
            return False

    async def _ask(self, request: Request, action: Action) -> str | None:
        """Return the name of the client if it may do this, else None."""
        if self._authorize is None:
            return _name_of(request)
        answer = self._authorize(request, action)
        return _name_from(await answer if isawaitable(answer) else answer, request)


def _name_from(answer: object, request: Request) -> str | None:
    if isinstance(answer, str):
        return answer or None
    if not isinstance(answer, bool):
        raise DefinitionError(f"authorize must return True, False or a name, got {type(answer).__name__}")
    return _name_of(request) if answer else None


def csrf_token(request: Request) -> tuple[str, bool]:
    """Return the token for the forms of a page, and True if its cookie is to be set.

    A form sends the token twice: as a cookie that other sites cannot read or send, and as a field. So every process
    accepts the forms of every other one, without a shared secret.
    """
    known = request.cookies.get(CSRF_COOKIE, "")
    if _TOKEN.fullmatch(known):  # pages hold it as it is
        return known, False
    return secrets.token_urlsafe(_TOKEN_BYTES), True


def check_token(request: Request, form: dict[str, str]) -> None:
    """Refuse a form without the token of its cookie."""
    cookie, field = request.cookies.get(CSRF_COOKIE, ""), form.get(CSRF_FIELD, "")
    if not _TOKEN.fullmatch(cookie) or not secrets.compare_digest(cookie.encode(), field.encode()):
        raise _refused("this form is too old, or cookies are off: load the page again")


def check_same_origin(request: Request) -> None:
    """Refuse a form that was not sent from a page of this host.

    Browsers say where a form comes from: in Sec-Fetch-Site, but over plain HTTP only in Origin. The schemes are not
    compared, because a proxy may have ended TLS.
    """
    site, host = request.headers.get("sec-fetch-site"), request.headers.get("host")
    origin = request.headers.get("origin", "").partition("://")[2]
    is_same = site in ("same-origin", "none") if site else bool(host) and origin == host
    if not is_same:
        raise _refused("this form was not sent from a page of this host")


async def read_form(request: Request) -> dict[str, str]:
    """Read the fields of a form."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "this is not a form")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BODY:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "this form is too large")
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict"))
    except ValueError:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "this form is not valid") from None


def _refused(why: str) -> HTTPException:
    return HTTPException(HTTPStatus.FORBIDDEN, why)


def _name_of(request: Request) -> str:
    """Return the name of the user that a middleware has found, or else the address of the client."""
    name: object = getattr(request.scope.get("user"), "display_name", None)
    if name:
        return str(name)
    return request.client.host if request.client else "unknown"
