"""Log lines as JSON: each line is JSON, whatever it holds."""

import io
import json
import logging
import math
from collections.abc import Iterator
from typing import Any

import pytest

from flowli_core.logs import JsonFormatter


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def nested(depth: int) -> list[object]:
    found: list[object] = []
    for _ in range(depth):
        found = [found]
    return found


def circular() -> dict[str, object]:
    found: dict[str, object] = {"number": 1}
    found["itself"] = found
    return found


@pytest.fixture
def out(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Collect what a logger called "json" writes."""
    monkeypatch.setattr(logging, "raiseExceptions", False)  # as in production
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("json")
    logger.addHandler(handler)
    logger.setLevel("INFO")
    logger.propagate = False
    yield written
    logger.removeHandler(handler)


def read(text: str) -> Any:
    """Read a line as a strict program does."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert text.isascii()
    (line,) = text.splitlines()
    read = json.loads(line, parse_constant=refuse)
    json.dumps(read, ensure_ascii=False).encode()  # a lone surrogate cannot be encoded
    return read


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.5, 1.5),
        (math.nan, "nan"),
        ([math.inf, {"low": -math.inf}], ["inf", {"low": "-inf"}]),
        ({("a", "b"): 1, 2: True, None: None}, {"('a', 'b')": 1, "2": True, "None": None}),
        ({"text", 1} - {1}, "{'text'}"),
        (Unprintable(), "<a Unprintable whose text cannot be made: RuntimeError>"),
        ({Unprintable(): 1}, {"<a Unprintable whose text cannot be made: RuntimeError>": 1}),
        ("half \ud83d", "half \\ud83d"),
        ("whole \U0001f600", "whole \U0001f600"),
        (b"\xff", "b'\\xff'"),
    ],
)
def test_a_value_that_json_lacks_is_written_as_text(out: io.StringIO, value: object, expected: object) -> None:
    logging.getLogger("json").info("one", extra={"value": value})
    line = read(out.getvalue())
    assert (line["message"], line["value"]) == ("one", expected)


@pytest.mark.parametrize(
    "value",
    [nested(100_000), circular(), [10**5_000], [nested(19), math.nan]],
    ids=["deep", "circular", "huge", "deep and not finite"],
)
def test_a_value_without_an_end_is_shortened_and_no_line_is_lost(out: io.StringIO, value: object) -> None:
    logging.getLogger("json").info("one", extra={"value": value})
    assert read(out.getvalue())["message"] == "one"


@pytest.mark.parametrize("arguments", [("a",), (1, 2), (Unprintable(),)])
def test_a_message_whose_arguments_do_not_fit_is_written_without_them(
    out: io.StringIO, arguments: tuple[object, ...]
) -> None:
    logging.getLogger("json").info("took %d s", *arguments)
    assert read(out.getvalue())["message"].startswith("took %d s (its arguments cannot be formatted: ")


def test_an_error_whose_text_cannot_be_made_loses_no_line(out: io.StringIO) -> None:
    logging.getLogger("json").error("failed \udcff", exc_info=ValueError(Unprintable()))
    line = read(out.getvalue())
    assert line["message"] == "failed \\udcff"
    assert "ValueError" in line["exception"]
