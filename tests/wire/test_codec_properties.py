"""For any value, the worker gets an equal one, or the caller gets a ValidationError."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from flowli_core import ValidationError
from flowli_core.durations import duration, format_duration
from tests.support.delivery import Delivery
from tests.support.seen import seen


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Shade(StrEnum):
    DARK = "dark"


class Level(IntEnum):
    HIGH = 1


class Part(BaseModel):
    name: str
    amount: Decimal | None = None
    inner: Part | None = None


@dataclass
class Spot:
    x: float
    y: float


class Everything(BaseModel):
    text: str
    whole: int
    ratio: float
    truth: bool
    moment: datetime
    day: date
    span: timedelta
    number: UUID
    color: Color
    either: int | str | None
    parts: list[Part]
    spots: dict[str, Spot]
    members: set[int]
    pair: tuple[int, str]
    keyed: dict[int, list[bool]]


numbers = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(max_size=8)
amounts = st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=2)
parts: st.SearchStrategy[Part] = st.recursive(
    st.builds(Part, name=names, amount=amounts, inner=st.none()),
    lambda inner: st.builds(Part, name=names, amount=amounts, inner=inner),
    max_leaves=3,
)


def without_fold(moment: datetime) -> datetime:
    return moment.replace(fold=0)


offsets = st.builds(timezone, st.integers(-23 * 60, 23 * 60).map(lambda minutes: timedelta(minutes=minutes)))
models = st.builds(
    Everything,
    text=st.text(),
    whole=st.integers(),
    ratio=numbers,
    truth=st.booleans(),
    moment=(st.datetimes() | st.datetimes(timezones=offsets)).map(without_fold),
    day=st.dates(),
    span=st.timedeltas(min_value=timedelta(days=-3650), max_value=timedelta(days=36500)),
    number=st.uuids(),
    color=st.sampled_from(Color),
    either=st.none() | st.integers() | names,
    parts=st.lists(parts, max_size=3),
    spots=st.dictionaries(names, st.builds(Spot, x=numbers, y=numbers), max_size=3),
    members=st.sets(st.integers(), max_size=3),
    pair=st.tuples(st.integers(), names),
    keyed=st.dictionaries(st.integers(), st.lists(st.booleans(), max_size=2), max_size=2),
)

everything = Delivery(Everything)


@given(models)
@settings(deadline=None)
async def test_a_model_survives(made: Everything) -> None:
    fields = {name: getattr(made, name) for name in Everything.model_fields}
    for arrived in (await everything.send(made), await everything.send(**fields)):
        assert seen(arrived) == seen(made)


json_values: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)

anything = Delivery(Any)


@given(json_values)
@settings(deadline=None)
async def test_a_json_value_survives(value: object) -> None:
    assert seen(await anything.send(value)) == seen(value)


awkward: st.SearchStrategy[object] = st.recursive(
    st.floats()
    | st.text(st.characters(codec=None), max_size=4)
    | st.binary(max_size=4)
    | st.datetimes()
    | st.complex_numbers()
    | st.sampled_from([object(), Color.RED, Shade.DARK, Level.HIGH, b"\xff", float("nan"), Ellipsis, True, 1, 1.0]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.integers() | st.text(max_size=3) | st.none(), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(awkward)
@settings(deadline=None)
async def test_any_other_value_survives_or_is_refused(value: object) -> None:
    stored = len(anything.driver.enqueued)
    try:
        arrived = await anything.send(value)
    except ValidationError:
        assert len(anything.driver.enqueued) == stored
    else:
        assert seen(arrived) == seen(value)


@given(st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=3653)))
def test_a_formatted_duration_is_read_as_the_same_duration(span: timedelta) -> None:
    whole = timedelta(milliseconds=span // timedelta(milliseconds=1))
    assert duration(format_duration(whole), argument="span") == whole
