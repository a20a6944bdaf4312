"""Decides whether the client of an HTTP request caused a ValidationError or a SchedulingError, or the application did.

The client may have caused it if a refused value has a word in common with the request: with a path parameter, the
query, a header of the application's own, or the body. If it has none, the application made the value. If the words of
the body are unknown, because it is long or is not JSON, the error counts as the client's.

The refused values are read from the traceback: they are arguments of the call from the application into this library.
"""

import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from traceback import walk_tb
from types import FrameType
from typing import Any, cast
from urllib.parse import parse_qsl

from pydantic_core import from_json, to_json

from flowli_core.errors import FlowliError, SchedulingError, ValidationError

_LONGEST_BODY = 64 * 1024
_WORD = re.compile(r"\d+|[^\W\d_]+")
_OWN_HEADER = re.compile(rb"x-(?!forwarded|real)|.*-(key|id)$")
_PAYLOADS = ("args", "kwargs", "input", "inputs", "options")
"""The parameters of the library's methods that hold inputs and metas."""


def is_of_client(error: FlowliError, scope: Mapping[str, Any], body: bytes | None) -> bool:
    """Return True if the client may have caused the error.

    `body` is what was read of the request's body: nothing if the application has not read it, None if it is unknown.
    """
    if scope["type"] == "websocket":
        return True
    sent = _read_request(scope, body)
    if sent is None:
        return True
    refused = _read_refused(error)
    return bool(sent) and (refused is None or not sent.isdisjoint(refused))


def find_call(error: FlowliError) -> tuple[str, FrameType | None]:
    """Return the file and line of the application that called this library, and the frame of the called method."""
    location, called, is_ours = "an unknown line", None, False
    for frame, line in walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package.startswith("flowli_"):
            called, is_ours = (called if is_ours else frame), True
        elif package not in sys.stdlib_module_names:
            location, is_ours = f"{frame.f_code.co_filename}:{line}", False
    return location, called


def _read_request(scope: Mapping[str, Any], body: bytes | None) -> set[str] | None:
    """Return the words of a request, or None if its body cannot be read."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    own = [value.decode("latin-1") for name, value in headers.items() if _OWN_HEADER.match(name)]
    query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    parts: list[object] = [part for part in (scope.get("path_params"), query, own) if part]
    if headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers:
        if body is None or len(body) > _LONGEST_BODY or b"json" not in headers.get(b"content-type", b""):
            return None
        try:
            parts += [from_json(body)] if body else []
        except ValueError:
            return None
    return _words(parts) if parts else set()


def _read_refused(error: FlowliError) -> set[str] | None:
    """Return the words of the refused arguments, or None if these are unknown."""
    _, frame = find_call(error)
    if frame is None:
        return None
    names, varargs, keywords, values = inspect.getargvalues(frame)
    arguments = {name: values.get(name) for name in (*names, varargs, keywords) if name and name != "self"}
    if isinstance(error, SchedulingError):
        arguments = {name: value for name, value in arguments.items() if name not in _PAYLOADS}
    else:
        options = getattr(getattr(values.get("self"), "_call", None), "options", None)
        given_before = [getattr(options, name, None) for name in ("meta", "queue", "key", "id")]
        arguments["options"] = [value for value in given_before if value is not None]
    try:
        given: dict[str, Any] = from_json(to_json(arguments, inf_nan_mode="constants", fallback=lambda _: None))
    except (ValueError, RecursionError):
        return None
    if isinstance(error, ValidationError) and error.issues:
        # A record of the store may be invalid too. It is no argument, and no client caused it.
        payloads = [given[name] for name in _PAYLOADS if given.get(name)]
        return _words([_find(payloads, issue.path) for issue in error.issues]) if payloads else set()
    return _words([value for value in [*given.pop("options", []), *given.values()] if value is not None])


def _find(payloads: list[Any], path: str) -> Any:
    """Return the value that has the longest part of the path below a payload, or all payloads if none has any of it."""
    roots: list[Any] = list(payloads)
    for payload in payloads:
        roots += payload if _is_list(payload) else [_walk(payload, ["meta"])[1]]
    parts = re.split(r"[.\[\]]+", path.strip("[]"))
    steps, found = max((_walk(root, parts) for root in roots), key=lambda walked: walked[0])
    return found if steps else payloads


def _walk(root: Any, parts: list[str]) -> tuple[int, Any]:
    """Follow a path as far as possible. Return the number of steps, and the value there."""
    value = root
    for step, part in enumerate(parts):
        try:
            value = value[int(part) if _is_list(value) else part]
        except (LookupError, TypeError, ValueError):
            return step, value
    return len(parts), value


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _words(value: object) -> set[str]:
    """Return the words and numbers in all texts and numbers of a JSON value. An empty value has the word ""."""
    parts: list[object] = []
    if isinstance(value, dict):
        parts = list(cast("dict[object, object]", value).values())
    elif isinstance(value, list | tuple):
        parts = list(cast("Iterable[object]", value))
    else:
        return set(_WORD.findall(str(value).lower())) or {""}
    return {word for part in parts for word in _words(part)} or {""}
