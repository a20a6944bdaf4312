"""The problems of a payload as issues that hold no data: no values, no keys of dicts, no names of unknown fields.

An issue ends up in responses, in logs and in the record's last error. So a path shows only names that the declared type
has, and a problem is a message of pydantic only if that message quotes nothing. The text of a user's own validator is
shown only if it is a constant in the code.
"""

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from itertools import islice
from traceback import walk_tb
from typing import Any

import pydantic
from pydantic_core import PydanticSerializationError

from flowli_core._text import escape_controls
from flowli_core.errors import Issue

MOST_ISSUES = 100
"""An error has at most this many issues, however many problems its payload has."""

HIDDEN = "[...]"
"""Replaces a part of a path that may be data."""

_FEW = 1_000
_LONGEST = 200
_LONGEST_NAME = 64
_MOST_GUESSES = 5
_LARGEST_INDEX = 1_000_000
"""A greater number in a path is no index, because a payload has fewer items, but may be the key of a dict."""

_QUOTING_NOTHING = """
    arguments_type bool_parsing bool_type bytes_too_long bytes_too_short bytes_type callable_type
    complex_str_parsing complex_type counter_type dataclass_exact_type dataclass_type date_from_datetime_inexact
    date_from_datetime_parsing date_future date_parsing date_past date_type datetime_from_date_parsing
    datetime_future datetime_parsing datetime_past datetime_type decimal_max_digits decimal_max_places
    decimal_parsing decimal_type decimal_whole_digits default_factory_not_called deque_type dict_type ellipsis_error
    enum extra_forbidden finite_number float_parsing float_type fraction_parsing fraction_type frozen_dict_type
    frozen_field frozen_instance frozen_set_type greater_than greater_than_equal int_from_float int_parsing
    int_parsing_size int_type invalid_key is_instance_of is_subclass_of iterable_type json_invalid json_type
    less_than less_than_equal list_type literal_error missing missing_argument missing_keyword_only_argument
    missing_positional_only_argument missing_sentinel_error model_attributes_type model_type
    multiple_argument_values multiple_of named_tuple_type none_required ordered_dict_type recursion_depth_exceeded
    recursion_loop set_item_not_hashable set_type string_not_ascii string_pattern_mismatch string_too_long
    string_too_short string_type string_unicode time_delta_parsing time_delta_type time_parsing time_type
    timezone_aware timezone_naive too_long too_short tuple_type unexpected_keyword_argument
    unexpected_positional_argument union_tag_not_found url_parsing url_scheme url_syntax_violation url_too_long
    url_type uuid_type uuid_version
"""
_QUOTE_NOTHING = frozenset(_QUOTING_NOTHING.split())
"""The types of pydantic's errors whose messages hold nothing of the payload, but limits and names of the type."""

_OF_LIMITS = frozenset(
    [
        "bytes_too_long",
        "bytes_too_short",
        "date_future",
        "date_past",
        "datetime_future",
        "datetime_past",
        "decimal_max_digits",
        "decimal_max_places",
        "decimal_whole_digits",
        "finite_number",
        "greater_than",
        "greater_than_equal",
        "int_parsing_size",
        "less_than",
        "less_than_equal",
        "multiple_of",
        "string_pattern_mismatch",
        "string_too_long",
        "string_too_short",
        "timezone_aware",
        "timezone_naive",
        "too_long",
        "too_short",
        "url_too_long",
    ]
)
"""The types of errors about values whose type is right."""


def to_issues(error: pydantic.ValidationError, names: frozenset[str], *, most: int = MOST_ISSUES) -> list[Issue]:
    """Return the first problems that pydantic found.

    `names` are the names that a path may show.
    """
    if error.error_count() <= _FEW:
        details: Iterable[Any] = error.errors(include_url=False)
    else:
        # pydantic makes a dict of each error, which takes seconds for a million. JSON is fast, but has no types.
        details = _first_of(error.json(include_url=False, include_input=False), most)
    return [Issue(show_path(detail["loc"], names), _problem(detail)) for detail in islice(details, most)]


def show_path(path: Iterable[object], names: frozenset[str]) -> str:
    """Write a path with those names that the declared type has, and with indexes."""
    shown = [
        str(part) if part in names or (isinstance(part, int) and 0 <= part < _LARGEST_INDEX) else HIDDEN
        for part in path
    ]
    return ".".join(shown)[:_LONGEST]


def is_mistyped(error: PydanticSerializationError) -> bool:
    """Return True if pydantic does not write a value because a part of it is not of its declared type."""
    return "input_value=" in str(error)


def describe_unwritable(error: Exception) -> str:
    """Return why pydantic cannot write a value as JSON. Its own message may quote the value."""
    text = str(error)
    if "input_value=" in text:
        return "a value in it is not of its declared type"
    if text.startswith("Unable to serialize unknown type"):
        return clean(text)
    for sign, problem in _UNWRITABLE.items():
        if sign in text:
            return problem
    return type(error).__name__


def describe_refusal(error: Exception) -> str:
    """Return the text of an error from a user's own code, or hide it if it may quote the value.

    A text is shown if it is a constant in the function that raised it. One that was made there may hold anything.
    """
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    if frames and len(error.args) == 1 and error.args[0] in frames[-1].f_code.co_consts:
        return clean(str(error.args[0]))
    return f"a validator refused it with {type(error).__name__}, whose text is hidden, because it may quote the value"


def describe_mismatch(constructor: Callable[..., Any], args: tuple[object, ...], kwargs: dict[str, object]) -> str:
    """Return which parameters the arguments miss, or an empty text if the constructor takes them."""
    try:
        inspect.signature(constructor).bind(*args, **kwargs)
    except (TypeError, ValueError) as error:
        text = str(error)
        return "" if "unexpected" in text else clean(text)  # the name of an unexpected argument may be data
    return ""


def describe_unknown(names: Iterable[str], known: frozenset[str]) -> str:
    """Return how many of the given fields are unknown, and the names that were probably meant."""
    unknown = sorted(names)
    close = [match for name in unknown[:_MOST_GUESSES] for match in get_close_matches(name[:_LONGEST_NAME], known, 1)]
    # The unknown name itself may be data: a call may pass on the fields that a client has sent.
    problem = "unknown field" if len(unknown) == 1 else f"{len(unknown)} unknown fields"
    meant = f"; did you mean {' and '.join(close)}?" if close else ""
    return clean(f"{problem}{meant}; the fields are {', '.join(sorted(known))}")


def clean(text: str) -> str:
    """Return the text shortened, and with its control characters escaped."""
    return escape_controls(text[:_LONGEST])


_UNWRITABLE = {
    "Circular reference": "Circular reference",
    "surrogates": "it has text with surrogates, which UTF-8 cannot encode",
    "invalid utf-8": "it has bytes that are not UTF-8",
    "depth": "it nests too deep",
    " at line ": "JSON has no NaN or infinity",
}


def _problem(detail: Mapping[str, Any]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in {"missing", "json_invalid"} or kind in _OF_LIMITS:
        return clean(detail["msg"])
    got = f", got {type(detail['input']).__name__}" if "input" in detail else ""
    if kind in _QUOTE_NOTHING:
        return clean(detail["msg"]) + got
    error = context.get("error")
    if kind in {"value_error", "assertion_error"} and isinstance(error, Exception):
        # Raised by a user's own validator. pydantic's own errors of these types have no "error".
        return describe_refusal(error) + got
    if kind == "union_tag_invalid":
        return clean(f"Input should have one of the tags {context.get('expected_tags')}") + got
    return clean(f"Input is not valid ({kind})") + got


def _first_of(array: str, count: int) -> Iterable[Any]:
    """Read the first objects of a JSON array."""
    decoder, at = json.JSONDecoder(), 1
    for _ in range(count):
        value, at = decoder.raw_decode(array, at)
        yield value
        at += 1  # a comma, or the end
