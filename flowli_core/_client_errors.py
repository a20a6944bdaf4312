"""Decides whether the client of an HTTP request may have caused an error of a call, or only the program.

The client may have caused it if the call was refused because of an invalid value, and the request carries data. Then it
does not matter whether the application passes that data on or computes the value from it. An error is the program's if
it is internal (see `FlowliError.is_internal`), or if the request carries nothing from which a value could come.
"""

import re
import sys
from collections.abc import Mapping
from traceback import walk_tb
from typing import Any

from flowli_core._logger import logger
from flowli_core.errors import FlowliError

_OWN_HEADER = re.compile(rb"(?!x-(forwarded|real|request-id))(x-|.*-(key|id)$)")
"""The headers that an application defines itself. Browsers and proxies send the others."""


def is_of_client(error: FlowliError, scope: Mapping[str, Any]) -> bool:
    """Return True if the client of a request may have caused this error, and log it with the line of the call."""
    if error.is_internal or not (scope["type"] == "websocket" or _carries_data(scope)):
        return False
    logger.warning("request refused: %s (called at %s)", error, _find_call(error))
    return True


def _carries_data(scope: Mapping[str, Any]) -> bool:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    length = headers.get(b"content-length")
    # HTTP/2 has bodies without a length and without a transfer encoding.
    has_body = bool(headers.keys() & {b"transfer-encoding", b"content-type"}) if length is None else length != b"0"
    return bool(has_body or scope.get("path_params") or scope.get("query_string")) or any(
        map(_OWN_HEADER.match, headers)
    )


def _find_call(error: FlowliError) -> str:
    """Return the file and line of the application that called this library."""
    location = "an unknown line"
    for frame, line in walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if not package.startswith("flowli_") and package not in sys.stdlib_module_names:
            location = f"{frame.f_code.co_filename}:{line}"
    return location
