"""URLs of servers: a password is never shown, resolved or connected to, and options are checked at once."""

from __future__ import annotations

import logging
import traceback
from typing import Any
from urllib.parse import quote

import pytest

from flowli_core import DefinitionError
from flowli_core.drivers.redis import RedisDriver

PARTS = ("hunter2", "swordfish")
SPECIAL = "#/?@:[]%\\ &+=;,\"'<>|^`{}~!$*()"
any_url: Any = RedisDriver.from_url


def options_of(url: str) -> dict[str, Any]:
    """Return the options with which a driver connects."""
    driver: Any = RedisDriver.from_url(url)
    options: dict[str, Any] = dict(driver._source.users._client.connection_pool.connection_kwargs)
    return options


def refusal(url: object) -> str:
    """Return the message with which a URL is refused, after checking that no part of a password is in it."""
    with pytest.raises(DefinitionError) as caught:
        any_url(url)
    shown = "".join(traceback.format_exception(caught.value))
    assert caught.value.__cause__ is None
    said = "\n".join(line for line in shown.splitlines() if "any_url(" not in line)
    assert not [part for part in PARTS if part in said]
    return str(caught.value)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys"])
@pytest.mark.parametrize("character", [*SPECIAL, "\t", "\n", "℀", "é"])
@pytest.mark.parametrize("form", [":{}@db:6379/1", "user:{}@db:6379", "{}@db"])
def test_a_password_with_a_special_character_is_used_whole_or_refused(scheme: str, character: str, form: str) -> None:
    """It is never cut: neither at a host, nor at a port, nor at an option."""
    password = character.join(PARTS)
    try:
        options = options_of(f"{scheme}://{form.format(password)}")
    except DefinitionError:
        assert "percent-encoded" in refusal(f"{scheme}://{form.format(password)}")
        return
    assert options["host"] == "db"
    given = f"{options.get('username', '')}:{options.get('password', '')}".strip(":")
    assert given.removeprefix("user:") == password


@pytest.mark.parametrize("form", [":{}@db:6379/1", "user:{}@db:6379", "db?password={}"])
def test_a_percent_encoded_password_is_decoded(form: str) -> None:
    """Any character may be in it, also as an option of the URL."""
    for scheme in ("redis", "valkeys"):
        options = options_of(f"{scheme}://{form.format(quote(SPECIAL + 'é', safe=''))}")
        assert (options["host"], options["password"]) == ("db", SPECIAL + "é")


@pytest.mark.parametrize(
    "url",
    [
        *("redis://:hunter2#x@db:6379", "redis://hunter2/x@db:6379", "redis://:12345/hunter2@db:6379"),
        *("redis://:hunter2?x=1@db", "redis://:hunter2?db=1@db", "redis://user:hunter2[x@db", "redis://:%ffhunter2@db"),
        *("unix://:hunter2/swordfish@/run/redis.sock", "redis://db?password=hunter2+swordfish"),
        *("redis://db?password=hunter2&swordfish", "redis://db?password=hunter2#swordfish"),
    ],
)
def test_the_message_says_how_to_percent_encode_a_password(url: str) -> None:
    """A URL in which a special character cuts the password is refused."""
    assert "quote(password, safe='')" in refusal(url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://db:hunter2", "a port from 1 to 65535"),
        ("redis://db:0", "a port from 1 to 65535"),
        ("redis://db:70000", "a port from 1 to 65535"),
        ("redis://hunter2!x", "a host"),
        ("redis://[hunter2]", "a host"),
        ("redis://db/hunter2", "the number of a database"),
        ("redis://db/0/1", "the number of a database"),
        ("unix://run/redis.sock", "an absolute path"),
        ("unix://", "an absolute path"),
        ("redis://db?db=hunter2", "option db must be a whole number"),
        ("redis://db?db=" + "9" * 5000, "option db must be a whole number"),
        ("redis://db?socket_timeout=hunter2", "option socket_timeout must be a number of seconds"),
        ("redis://db?socket_timeout=nan", "option socket_timeout must be a number of seconds"),
        ("redis://db?protocol=hunter2", "option protocol must be 2 or 3"),
        ("redis://db?socket_keepalive=hunter2", "option socket_keepalive must be true or false"),
        ("rediss://db?ssl_cert_reqs=hunter2", "option ssl_cert_reqs must be required, optional or none"),
        ("redis://db?hunter2=1", "unknown option; it may have client_name, db"),
        ("redis://db?password=", "option password must not be empty"),
        ("redis://db?db=1&db=2", "option db is given twice"),
        ("redis://:hunter2@db?password=swordfish", "option password is given twice"),
        ("redis://db/1?db=2", "option db is given twice"),
        ("redis://db?ssl_cert_reqs=required", "option ssl_cert_reqs needs rediss:// or valkeys://"),
        ("http://user:hunter2@db", "redis://, rediss://"),
        ("hunter2", "redis://, rediss://"),
        ("", "redis://, rediss://"),
        (5, "url must be a str, got int; a client is given to RedisDriver(...)"),
        (None, "url must be a str, got NoneType; a client is given to RedisDriver(...)"),
        (b"redis://hunter2", "url must be a str, got bytes; a client is given to RedisDriver(...)"),
    ],
)
def test_an_invalid_url_is_refused_at_once(url: object, says: str) -> None:
    """The message names the part of the URL, and never its value."""
    assert says in refusal(url)


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_an_option_that_the_library_does_not_know_is_refused_at_once(scheme: str) -> None:
    """Not by a TypeError at the first connection."""
    assert "unknown option" in refusal(f"{scheme}://db?nosuch=1")
    if scheme == "valkey":
        assert "valkey does not support" in refusal(f"{scheme}s://db?ssl_ca_path=/certs")


def test_all_parts_of_a_url_reach_the_client() -> None:
    """Host, port, database, user and options."""
    expected = {
        "host": "::1",
        "port": 6380,
        "db": 3,
        "username": "user",
        "password": "pa ss",
        "socket_timeout": 1.5,
        "health_check_interval": 10,
        "ssl_ca_certs": "ca",
        "ssl_check_hostname": True,
    }
    url = "rediss://user:pa%20ss@[::1]:6380/3?socket_timeout=1.5&health_check_interval=10&ssl_ca_certs=ca"
    assert expected.items() <= options_of(url).items()
    expected = {"path": "/run/a b.sock", "db": 2, "username": "user", "password": "pw"}
    assert expected.items() <= options_of("unix://user:pw@/run/a%20b.sock?db=2").items()
    assert "host" not in options_of("redis://")


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
@pytest.mark.parametrize("option", ["ssl_cert_reqs=none", "ssl_check_hostname=false"])
def test_a_url_that_turns_off_a_check_of_the_certificate_is_warned_about(
    scheme: str, option: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning names the option. Without such an option there is no warning."""
    with caplog.at_level(logging.WARNING, "flowli"):
        RedisDriver.from_url(f"{scheme}://db?ssl_cert_reqs=required")
        assert not caplog.records
        RedisDriver.from_url(f"{scheme}://:hunter2@db?{option}")
    assert option.partition("=")[0] in caplog.text
    assert "hunter2" not in caplog.text
