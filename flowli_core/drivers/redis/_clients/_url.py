"""Parsing of the URL of a server. No error quotes a part of it: any part may be a piece of a password."""

import math
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote

from flowli_core import _checks
from flowli_core.errors import DefinitionError

Kind = Literal["tcp", "tls", "unix"]

_SCHEMES: dict[str, tuple[str, Kind]] = {
    "redis": ("redis", "tcp"),
    "rediss": ("redis", "tls"),
    "unix": ("redis", "unix"),
    "valkey": ("valkey", "tcp"),
    "valkeys": ("valkey", "tls"),
}
"""The library and the kind of connection for each scheme."""

_BAD_SCHEME = "url must be redis://, rediss://, valkey://, valkeys:// or unix://, with a host and a port below 65536"
_CLIENT = "; a client is given to RedisDriver(...)"
_NOT_ENCODED = (
    "url cannot be read; special characters of a user name, a password or an option must be percent-encoded: "
    "quote(password, safe='') of urllib.parse does so"
)
_LOCATION = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[\w.-]*)(?::([0-9]{1,5}))?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_NUMBER = 9
_MOST_OPTIONS = 50
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedUrl:
    """The client library that a URL asks for, the kind of connection, and the options of the connection."""

    library: str
    kind: Kind
    options: dict[str, Any]


def parse_url(url: object) -> ParsedUrl:
    """Parse `scheme://user:password@host:port/db?option=value` or `unix://user:password@/path?option=value`.

    Raises DefinitionError. With TLS the host name is checked unless an option says otherwise.
    """
    scheme, separator, rest = _checks.instance(url, str, argument="url", cure=_CLIENT).partition("://")
    if not separator or scheme not in _SCHEMES:
        raise DefinitionError(_BAD_SCHEME)
    library, kind = _SCHEMES[scheme]
    authority, path, query = _split(rest)
    userinfo, _, location = authority.rpartition("@")
    username, _, password = userinfo.partition(":")
    options = _read_options(query, kind)
    _add(options, username=_decode(username), password=_decode(password))
    if kind == "unix":
        if location or not path:
            raise DefinitionError("url must have an absolute path after unix://, such as unix:///run/redis.sock")
        options["path"] = _decode(path)
        return ParsedUrl(library=library, kind=kind, options=options)
    found = _LOCATION.fullmatch(location)
    if found is None or not 1 <= int(found[2] or 1) <= _LAST_PORT:
        raise DefinitionError("url must have a host, and a port from 1 to 65535 or none")
    host = found[1].strip("[]")
    port, database = found[2], path.removeprefix("/")
    if database and not _is_number(database):
        raise DefinitionError("url must end with the number of a database, such as /0, or without a path")
    _add(options, host=host, port=port and int(port), db=database and int(database))
    if kind == "tls":
        options.setdefault("ssl_check_hostname", True)
        if options.get("ssl_cert_reqs") == "none":
            options["ssl_check_hostname"] = (
                False  # Python cannot check the name in a certificate that it does not check
            )
    return ParsedUrl(library=library, kind=kind, options=options)


def _split(rest: str) -> tuple[str, str, str]:
    """Return the authority, the path and the query. Refuse a URL in which a password may reach into the next part."""
    at = min((found for mark in "/?#" if (found := rest.find(mark)) >= 0), default=len(rest))
    authority, tail = rest[:at], rest[at:]
    userinfo = authority.rpartition("@")[0]
    path, _, query = tail.partition("?")
    if _CONTROL.search(rest) or any(mark in tail for mark in "@#") or any(mark in userinfo for mark in "[]"):
        raise DefinitionError(_NOT_ENCODED)
    return authority, path, query


def _decode(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise DefinitionError(_NOT_ENCODED) from None


def _add(options: dict[str, Any], **more: Any) -> None:
    """Add the options that are not empty."""
    for name, value in more.items():
        if value == "" or value is None:
            continue
        if name in options:
            raise DefinitionError(f"url: option {name} is given twice")
        options[name] = value


def _read_options(query: str, kind: Kind) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if not query:
        return options
    if "+" in query:  # it would be read as a space
        raise DefinitionError(_NOT_ENCODED)
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=_MOST_OPTIONS
        )
    except ValueError:
        raise DefinitionError(_NOT_ENCODED) from None
    for name, value in pairs:
        if name not in _OPTIONS:
            raise DefinitionError(f"url has an unknown option; it may have {', '.join(sorted(_OPTIONS))}")
        if name.startswith("ssl_") and kind != "tls":
            raise DefinitionError(f"url: option {name} needs rediss:// or valkeys://")
        if not value:
            raise DefinitionError(f"url: option {name} must not be empty")
        parse, what = _OPTIONS[name]
        parsed = parse(value)
        if parsed is None:
            raise DefinitionError(f"url: option {name} must be {what}")
        _add(options, **{name: parsed})
    return options


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER


def _whole_number(text: str) -> int | None:
    return int(text) if _is_number(text) else None


def _seconds(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _bool(text: str) -> bool | None:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(text.lower())


def _certificate_check(text: str) -> str | None:
    return text if text in {"required", "optional", "none"} else None


def _protocol(text: str) -> int | None:
    return int(text) if text in {"2", "3"} else None


def _tls_version(text: str) -> ssl.TLSVersion | None:
    try:
        return ssl.TLSVersion(_whole_number(text) or 0)
    except ValueError:
        return None


_TEXT = (str, "text")
_OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "client_name": _TEXT,
    "db": (_whole_number, "a whole number"),
    "health_check_interval": (_seconds, "a number of seconds"),
    "max_connections": (_whole_number, "a whole number"),
    "password": _TEXT,
    "protocol": (_protocol, "2 or 3"),
    "retry_on_timeout": (_bool, "true or false"),
    "socket_connect_timeout": (_seconds, "a number of seconds"),
    "socket_keepalive": (_bool, "true or false"),
    "socket_timeout": (_seconds, "a number of seconds"),
    "ssl_ca_certs": _TEXT,
    "ssl_ca_data": _TEXT,
    "ssl_ca_path": _TEXT,
    "ssl_cert_reqs": (_certificate_check, "required, optional or none"),
    "ssl_certfile": _TEXT,
    "ssl_check_hostname": (_bool, "true or false"),
    "ssl_ciphers": _TEXT,
    "ssl_keyfile": _TEXT,
    "ssl_min_version": (_tls_version, "the number of a version, such as 771 for TLS 1.2"),
    "ssl_password": _TEXT,
    "username": _TEXT,
}
"""The options that a URL may have: the parser of each, which returns None for an invalid value, and its description."""
