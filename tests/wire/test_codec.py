"""Inputs and metas survive JSON: the worker gets the value that the caller made."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    computed_field,
    field_serializer,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from flowli_core import Jobs, ValidationError, job
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain
from tests.support.delivery import Delivery

T = TypeVar("T")

PARIS = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Paris"))
"""A time in an hour that is repeated when the clock is put back."""

seen: list[int] = []


def look(value: int) -> int:
    """Record the value that a validator sees, and change it, so that a second validation would show."""
    seen.append(value)
    return value * 10


Times10 = Annotated[int, BeforeValidator(look)]


class Model(BaseModel):
    x: Times10


@dataclass
class Plain:
    x: Times10


@pydantic_dataclass
class Checked:
    x: Times10


class Typed(TypedDict):
    x: Times10


class Rooted(RootModel[Times10]):
    pass


@pytest.mark.parametrize(
    ("declared", "args", "kwargs", "expected"),
    [
        (Model, (), {"x": 3}, Model.model_construct(x=30)),
        (Model, ({"x": 3},), {}, Model.model_construct(x=30)),
        (Plain, (), {"x": 3}, Plain(30)),
        (Plain, (3,), {}, Plain(30)),
        (Plain, (Plain(3),), {}, Plain(30)),
        (Checked, (), {"x": 3}, Checked(3)),
        (Checked, (3,), {}, Checked(3)),
        (Typed, (), {"x": 3}, {"x": 30}),
        (Typed, ({"x": 3},), {}, {"x": 30}),
        (Rooted, (3,), {}, Rooted.model_construct(30)),
        (Times10, (3,), {}, 30),
    ],
)
async def test_a_validator_sees_the_fields_and_never_its_own_output(
    declared: Any, args: tuple[Any, ...], kwargs: dict[str, Any], expected: object
) -> None:
    """The JSON holds the fields as given. They are validated once at the call and once in the worker."""
    delivery = Delivery(declared)
    seen.clear()
    assert await delivery.jobs.take.run(*args, **kwargs) is None
    assert seen == [3]
    assert delivery.received == [expected]
    assert await delivery.send(*args, **kwargs) == expected
    assert set(seen) <= {3, 30}
    seen.clear()
    wire = json.loads(delivery.wire)
    assert wire in (3, {"x": 3})


async def test_a_validator_of_the_meta_never_sees_its_own_output() -> None:
    metas: list[object] = []

    @job(meta=Typed)
    async def note(meta: Typed | None) -> None:
        metas.append(meta)

    class Noting(Jobs[None]):
        take = note

    jobs = Noting(context=None, driver=MemoryDriver())
    await jobs.take.options(meta={"x": 3}).run()
    await jobs.take.options(meta={"x": 3}).enqueue()
    await drain(jobs)
    assert metas == [{"x": 30}] * 2


async def test_an_instance_that_a_validator_changed_is_refused() -> None:
    """The fields that it was made of cannot be derived from it."""
    with pytest.raises(ValidationError, match=r"does not come back .* give the fields rather than the instance"):
        await Delivery(Model).send(Model(x=3))


class Color(Enum):
    RED = "red"


class Size(IntEnum):
    BIG = 2


class Word(StrEnum):
    YES = "yes"


class Everyday(BaseModel):
    text: str = "é\u2028\U0001f600\0"
    moment: datetime = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=-5)))
    naive: datetime = datetime(2026, 1, 2)  # noqa: DTZ001 - it must stay naive
    day: date = date(2026, 2, 3)
    span: timedelta = timedelta(days=400, microseconds=1)
    amount: Decimal = Decimal("0.10")
    number: UUID = UUID(int=7)
    big: int = 10**300
    ratio: float = 0.1 + 0.2
    color: Color = Color.RED
    size: Size = Size.BIG
    word: Word = Word.YES
    either: int | str = "3"
    other: int | str = 3
    literal: Literal["a", 1] = 1
    members: set[int] = {1, 2}
    frozen: frozenset[str] = frozenset({"a"})
    pair: tuple[int, str] = (1, "a")
    keyed: dict[int, str] = {1: "a"}
    dated: dict[date, int] = {date(2026, 1, 1): 1}
    nothing: None = None
    data: bytes = b"plain"


async def test_common_types_survive() -> None:
    delivery = Delivery(Everyday)
    made = Everyday(text="changed")
    arrived = await delivery.send(made)
    assert arrived == made
    assert {name: type(value) for name, value in arrived} == {name: type(value) for name, value in made}
    assert await delivery.send(text="changed") == made
    assert await delivery.send(made.model_dump()) == made


@pytest.mark.parametrize("value", [PARIS, PARIS.replace(fold=1), PARIS.timetz()])
async def test_a_time_in_a_zone_whose_offset_changes_is_refused_with_the_cure(value: datetime | time) -> None:
    """JSON keeps only the offset, so adding a day across a change of the clock would give another time in a worker."""
    with pytest.raises(ValidationError, match="JSON keeps the offset of a time but not its zone; give it in UTC"):
        await Delivery(type(value)).send(value)


@pytest.mark.parametrize("zone", [UTC, ZoneInfo("UTC"), timezone(timedelta(hours=2)), ZoneInfo("Etc/GMT-2"), None])
async def test_a_time_in_a_zone_with_one_offset_survives(zone: tzinfo | None) -> None:
    moment = datetime(2026, 10, 25, 2, 30, tzinfo=zone)
    arrived = await Delivery(datetime).send(moment)
    assert (arrived, arrived.isoformat()) == (moment, moment.isoformat())
    assert (arrived + timedelta(days=1)).isoformat() == (moment + timedelta(days=1)).isoformat()
    assert await Delivery(time).send(moment.timetz()) == moment.timetz()


async def test_a_naive_datetime_of_the_second_pass_of_an_hour_is_refused() -> None:
    """JSON has no `fold`, which `astimezone` reads."""
    with pytest.raises(ValidationError, match="does not come back"):
        await Delivery(datetime).send(PARIS.replace(tzinfo=None, fold=1))


async def test_an_offset_that_json_cannot_hold_is_refused() -> None:
    odd = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1, seconds=1)))
    with pytest.raises(ValidationError, match="does not come back"):
        await Delivery(datetime).send(odd)


class Binary(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    data: bytes


async def test_bytes_that_are_not_text_survive_if_the_model_encodes_them() -> None:
    delivery = Delivery(Binary)
    assert await delivery.send(data=b"\xff\x00") == Binary(data=b"\xff\x00")
    assert await delivery.send(Binary(data=b"abcd")) == Binary(data=b"abcd")
    assert await delivery.send(data=b"abcd") == Binary(data=b"abcd")


class Stamped(BaseModel):
    name: str
    stamp: UUID = Field(default_factory=uuid4)


async def test_a_default_is_made_once_and_at_the_call() -> None:
    """A second attempt must see the same value of a default factory."""
    delivery = Delivery(Stamped)
    arrived = await delivery.send(name="a")
    assert json.loads(delivery.wire)["stamp"] == str(arrived.stamp)
    made = Stamped(name="b")
    assert await delivery.send(made) == made


class Aliased(BaseModel):
    short: int = Field(alias="shortName")
    both: int = Field(default=0, validation_alias="in", serialization_alias="out")
    outward: int = Field(default=0, serialization_alias="OUT")


class Choosy(BaseModel):
    one: int = Field(validation_alias=AliasChoices("uno", "un"))
    two: int = Field(default=0, validation_alias=AliasPath("numbers", 1))


async def test_a_call_may_use_aliases() -> None:
    delivery = Delivery(Aliased)
    expected = Aliased.model_validate({"shortName": 1, "in": 2, "outward": 3})
    assert await delivery.send(shortName=1, outward=3, **{"in": 2}) == expected
    assert await delivery.send({"shortName": 1, "in": 2, "outward": 3}) == expected
    choosy = Delivery(Choosy)
    assert await choosy.send(un=1, numbers=[0, 5]) == Choosy.model_validate({"uno": 1, "numbers": [0, 5]})


async def test_an_alias_that_only_other_readers_use_does_no_harm() -> None:
    class Outward(BaseModel):
        name: str = Field(serialization_alias="OUT")

    assert await Delivery(Outward).send(Outward(name="a")) == Outward(name="a")


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


async def test_the_extra_fields_that_a_model_allows_survive() -> None:
    assert await Delivery(Open).send(name="a", more=[1]) == Open.model_validate({"name": "a", "more": [1]})
    assert (await Delivery(Open).send(Open.model_validate({"name": "a", "more": 2}))).model_extra == {"more": 2}


class Kept(BaseModel):
    name: str
    hidden: int = Field(default=0, exclude=True)
    _seen: int = PrivateAttr(default=0)

    @computed_field
    def shout(self) -> str:
        return self.name.upper()


async def test_excluded_fields_survive_if_the_call_gives_fields() -> None:
    assert (await Delivery(Kept).send(name="a", hidden=7)).hidden == 7


async def test_an_instance_with_an_excluded_field_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"hidden: .* give the fields rather than the instance"):
        await Delivery(Kept).send(Kept(name="a", hidden=7))


async def test_private_attributes_are_not_stored() -> None:
    """They are not data, and a difference in them alone is no reason to refuse a value."""
    made = Kept(name="a")
    made._seen = 5  # pyright: ignore[reportPrivateUsage] - as a method of the model would do
    arrived = await Delivery(Kept).send(made)
    assert (arrived.name, arrived.shout, arrived._seen) == ("a", "A", 0)
    assert await Delivery(list[Kept]).send([made]) == [Kept(name="a")]
    assert await Delivery(dict[str, tuple[Kept, ...]]).send({"k": (made,)}) == {"k": (Kept(name="a"),)}


async def test_a_value_that_its_serializer_shortens_is_refused() -> None:
    class Rounded(BaseModel):
        at: datetime

        @field_serializer("at")
        def day(self, at: datetime) -> str:
            return at.date().isoformat()

    midnight = Rounded(at=datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None))
    assert await Delivery(Rounded).send(midnight) == midnight
    with pytest.raises(ValidationError, match="does not come back"):
        await Delivery(Rounded).send(Rounded(at=datetime(2026, 1, 1, 10)))  # noqa: DTZ001 - dates have no zone


async def test_an_instance_of_a_subclass_is_refused_rather_than_shortened_to_its_base() -> None:
    class Longer(Open):
        model_config = ConfigDict(extra="ignore")
        more: int = 1

    with pytest.raises(ValidationError, match="comes back from JSON as Open, not as Longer"):
        await Delivery(Open).send(Longer(name="a", more=2))
