"""The text of a ValidationError: it names fields, limits and types, and holds nothing of the payload."""

from __future__ import annotations

import ipaddress
import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Self
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, ByteSize, ConfigDict, Field, HttpUrl, ImportString, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from flowli_core import Jobs, ValidationError, job
from flowli_core._wire.codec import Codec
from flowli_core._wire.issues import MOST_ISSUES
from flowli_core._wire.proof import nesting_depth
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain

SECRET = "sk_live_5b1e"  # noqa: S105 - put into refused payloads
HOSTILE = f"{SECRET}\x1b[31m\r\n"


class Colour(Enum):
    RED = "red"


class Item(BaseModel):
    model_config = ConfigDict(extra="forbid")
    n: int = 0


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Row(TypedDict, total=False):
    id: int


class Everything(BaseModel):
    """A field of each kind whose errors quote something in pydantic's own messages, and some others."""

    prices: dict[str, int] = {}
    numbered: dict[int, int] = {}
    nested: dict[str, dict[str, Item]] = {}
    items: list[Item | int] = []
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    size: ByteSize = ByteSize(0)
    imported: ImportString[Any] = None
    number: UUID | None = None
    address: ipaddress.IPv4Address | None = None
    zone: ZoneInfo | None = None
    at: datetime | None = None
    day: date | None = None
    span: timedelta | None = None
    url: HttpUrl | None = None
    price: Decimal | None = None
    colour: Colour | None = None
    row: Row | None = None


@dataclass
class Point:
    x: int


class Own(BaseModel):
    x: int

    def __init__(self, x: int) -> None:
        super().__init__(x=x)


def tells(do: Callable[[], object]) -> str:
    """Return all that an error tells: its text, its issues and its traceback."""
    with pytest.raises(ValidationError) as caught:
        do()
    error = caught.value
    traced = "".join(traceback.format_exception(error)).replace("raise self._error", "")
    return "\n".join([str(error), *map(repr, error.issues), traced.rpartition("ValidationError: ")[2]])


def assert_private(text: str) -> None:
    assert SECRET not in text
    assert "\x1b" not in text
    assert "\r" not in text


ANYWHERE: list[dict[str, Any]] = [
    {"prices": {HOSTILE: "x"}},
    {"numbered": {4111111111111111: "x"}},
    {"nested": {HOSTILE: {HOSTILE: {"n": HOSTILE}}}},
    {"nested": {HOSTILE: {HOSTILE: {HOSTILE: 1}}}},
    {"items": [{"n": 1, HOSTILE: 1}, HOSTILE]},
    {"pet": {"kind": HOSTILE}},
    {"row": {"id": HOSTILE}},
    *[{name: HOSTILE} for name in Everything.model_fields],
    *[{name: f"5{HOSTILE}"} for name in Everything.model_fields],
    *[{name: {HOSTILE: HOSTILE}} for name in sorted(Everything.model_fields.keys() - {"imported", "row"})],
    *[{name: [HOSTILE]} for name in sorted(Everything.model_fields.keys() - {"imported"})],
]


@pytest.mark.parametrize("payload", ANYWHERE, ids=range(len(ANYWHERE)))
def test_an_error_holds_no_value_no_key_of_a_dict_and_no_control_character(payload: dict[str, Any]) -> None:
    codec: Codec[Any] = Codec(Everything, label="x")
    for do in (lambda: codec.pack_value(payload), lambda: codec.pack((), payload)):
        text = tells(do)
        assert_private(text)
        assert "4111111111111111" not in text
        assert next(iter(payload)) in text


@pytest.mark.parametrize("declared", [Everything, Row, Point, Own, Item])
@pytest.mark.parametrize("name", [SECRET, HOSTILE, SECRET * 1_000])
def test_an_error_does_not_hold_the_name_of_an_unknown_field(declared: Any, name: str) -> None:
    codec: Codec[Any] = Codec(declared, label="x")
    assert_private(tells(lambda: codec.pack((), {name: 1})))


def test_a_value_that_json_changes_is_refused_without_its_key() -> None:
    codec: Codec[Any] = Codec(dict[str, Any], label="x")
    for value in (b"x", {1}, {2: 3}, object(), float("nan")):
        text = tells(lambda value=value: codec.pack_value({HOSTILE: [value]}))  # type: ignore[misc]
        assert_private(text)


def test_a_misspelt_field_is_answered_with_the_name_that_was_meant() -> None:
    codec: Codec[Any] = Codec(Everything, label="x")
    assert "unknown field; did you mean prices?; the fields are address" in tells(
        lambda: codec.pack((), {"price_s": 1})
    )


def even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


def even_as_text(value: str) -> str:
    even(int(value))
    return value


def known(value: str) -> str:
    raise KnownError(f"there is no {value}")


def known_by_its_key(value: str) -> str:
    try:
        return {"a": "b"}[value]
    except KeyError as error:
        raise ValueError(*error.args) from error


class KnownError(ValueError):
    """An error of the user's own, with a text of its own."""

    def __str__(self) -> str:
        return f"unknown {self.args[0]}"


class Checked(BaseModel):
    name: str = ""

    @model_validator(mode="after")
    def refuse(self) -> Self:
        raise ValueError(self.name)


class OwnChecks(BaseModel):
    value: str

    def __init__(self, value: str) -> None:
        if value.startswith("sk"):
            raise ValueError(f"{value} is secret")
        super().__init__(value=value)


def test_the_text_of_a_users_own_validator_is_shown_if_it_is_a_constant() -> None:
    for validator, value in ((even, 1), (even_as_text, "1")):
        codec: Codec[Any] = Codec(Annotated[type(value), AfterValidator(validator)], label="x")
        assert "x is not valid: must be even, got" in tells(lambda codec=codec, value=value: codec.pack_value(value))  # type: ignore[misc]


@pytest.mark.parametrize("validator", [even_as_text, known, known_by_its_key, int])
def test_the_text_of_a_users_own_validator_is_hidden_if_it_may_quote_the_value(validator: Any) -> None:
    codec: Codec[Any] = Codec(Annotated[str, AfterValidator(validator)], label="x")
    text = tells(lambda: codec.pack_value(HOSTILE))
    assert_private(text)
    assert "a validator refused it with" in text
    assert "because it may quote the value" in text


def test_the_text_of_a_users_own_model_or_constructor_is_hidden_if_it_may_quote_the_value() -> None:
    checked: Codec[Any] = Codec(Checked, label="x")
    own: Codec[Any] = Codec(OwnChecks, label="x")
    for do in (
        lambda: checked.pack((), {"name": HOSTILE}),
        lambda: checked.pack_value({"name": HOSTILE}),
        lambda: own.pack((), {"value": HOSTILE}),
        lambda: own.pack_value({"value": HOSTILE}),
    ):
        text = tells(do)
        assert_private(text)
        assert "refused it with ValueError" in text


def test_the_type_of_a_users_own_pydantic_error_is_shown() -> None:
    def refuse(value: str) -> str:
        raise PydanticCustomError("no_cents", "{value} has cents", {"value": value})

    codec: Codec[Any] = Codec(Annotated[str, AfterValidator(refuse)], label="x")
    text = tells(lambda: codec.pack_value(HOSTILE))
    assert_private(text)
    assert "Input is not valid (no_cents), got str" in text


@pytest.mark.parametrize(
    ("declared", "value", "problem"),
    [
        (Annotated[int, Field(ge=0)], -3, "Input should be greater than or equal to 0"),
        (Annotated[str, Field(max_length=2)], "abc", "String should have at most 2 characters"),
        (Annotated[list[int], Field(min_length=1)], [], "List should have at least 1 item after validation, not 0"),
        (int, "a", "Input should be a valid integer, unable to parse string as an integer, got str"),
    ],
)
def test_the_type_of_a_value_is_named_only_if_it_is_the_problem(declared: Any, value: object, problem: str) -> None:
    codec: Codec[Any] = Codec(declared, label="x")
    with pytest.raises(ValidationError) as caught:
        codec.pack_value(value)
    assert [issue.problem for issue in caught.value.issues] == [problem]


keys = st.text(min_size=5).map(lambda text: f"\x1b{text}{SECRET}")
names = keys | st.sampled_from(list(Everything.model_fields))
payloads = st.recursive(
    keys | st.floats() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(names, payloads, max_size=4))
def test_no_payload_is_quoted_by_an_error(payload: dict[str, Any]) -> None:
    codec = _EVERYTHING
    try:
        codec.pack_value(payload)
    except ValidationError as error:
        assert_private(f"{error} {error.issues!r}")


_EVERYTHING: Codec[Any] = Codec(Everything, label="x")


@job(dict[str, int])
async def count(input: dict[str, int]) -> None: ...


class CountJobs(Jobs[None]):
    count = count


async def test_a_worker_stores_and_logs_nothing_of_an_input_that_it_cannot_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    other: Any = job(Any, name="count")

    async def loose(input: Any) -> None: ...

    driver = MemoryDriver()
    sender: Any = type("Sender", (Jobs,), {"count": other(loose)})(context=None, driver=driver)
    receipt = await sender.count.enqueue({HOSTILE: HOSTILE})
    jobs = CountJobs(context=None, driver=driver)
    await drain(jobs)
    found = await jobs.inspect.get_job(receipt.id)
    assert found is not None
    assert found.last_error is not None
    assert_private(found.last_error.message + found.last_error.traceback + caplog.text)


def test_a_million_wrong_items_cost_no_more_than_twice_their_validation() -> None:
    codec: Codec[Any] = Codec(list[int], label="x")
    wrong = ["x"] * 1_000_000
    started = time.process_time()
    with pytest.raises(ValidationError, match="and 999,995 more") as caught:
        codec.check(wrong)
    assert time.process_time() - started < 3  # it took 6 s; now 0.6 s
    assert len(caught.value.issues) == MOST_ISSUES
    assert caught.value.issues[2].path == "2"


@pytest.mark.parametrize(
    ("wire", "depth"),
    [
        (b"1", 0),
        (b"[]", 1),
        (b'[{"a": [[], {}]}]', 4),
        (b'["[[[[", "\\"[[[", "\\\\", [[]]]', 3),
        (b"[" * 64 + b"]" * 64, 64),
        (b"[" * 65 + b"]" * 65, 65),
        (b"[" * 100, 65),
        (b"]" * 100, 0),
        (b'"' + b"[" * 100, 0),
        (b'[[[["\\', 4),
    ],
)
def test_the_depth_of_json_is_that_of_its_brackets_outside_strings(wire: bytes, depth: int) -> None:
    assert min(nesting_depth(wire, most=64), 65) == depth


@pytest.mark.parametrize(
    "wire",
    [b"[" + b"[]," * 80_000 + b"1]", b'"' + b'\\"' * 130_000, b'["' + b"x" * 250_000 + b'"' + b",[]" * 70 + b"]"],
)
def test_the_largest_payload_does_not_hold_up_the_event_loop(wire: bytes) -> None:
    started = time.process_time()
    nesting_depth(wire, most=64)
    assert time.process_time() - started < 0.02
