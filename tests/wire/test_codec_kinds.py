"""Models, dataclasses and plain types of all kinds survive JSON."""

from __future__ import annotations

from dataclasses import KW_ONLY, InitVar, dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, NamedTuple, NotRequired, TypeVar

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Json, RootModel, TypeAdapter, with_config
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from flowli_core import DefinitionError, ValidationError
from tests.support.delivery import Delivery

T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    content: T


class Celsius(BaseModel):
    degrees: float

    def __init__(self, fahrenheit: float | None = None, **fields: Any) -> None:
        super().__init__(**(fields if fahrenheit is None else {"degrees": (fahrenheit - 32) / 1.8}))


class Tags(RootModel[list[str]]):
    pass


class Quoted(BaseModel):
    content: Json[list[int]]


class Exact(BaseModel):
    model_config = ConfigDict(strict=True)
    at: datetime
    sizes: set[int]


async def test_models_of_all_kinds_survive() -> None:
    assert await Delivery(Box[int]).send(content=3) == Box[int](content=3)
    assert await Delivery(Box[int]).send(Box[Any](content=3)) == Box[int](content=3)
    assert await Delivery(Celsius).send(212.0) == Celsius(212.0)
    assert await Delivery(Celsius).send(fahrenheit=212.0) == Celsius(212.0)
    assert await Delivery(Celsius).send(Celsius(212.0)) == Celsius(212.0)
    assert await Delivery(Tags).send(["a"]) == Tags(["a"])
    assert await Delivery(Tags).send(Tags(["a"])) == Tags(["a"])
    assert (await Delivery(Quoted).send(content="[1]")).content == [1]
    assert await Delivery(Quoted).send(Quoted.model_validate({"content": "[1]"})) is not None
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert await Delivery(Exact).send(at=moment, sizes={1}) == Exact(at=moment, sizes={1})


@dataclass
class Order:
    item: str
    _: KW_ONLY
    count: int = 1
    discount: InitVar[int] = 0
    notes: list[str] = field(default_factory=list[str])
    total: int = field(init=False, default=0)

    def __post_init__(self, discount: int) -> None:
        self.notes = ["made", *self.notes]
        self.total = self.count * 10 - discount


@dataclass(eq=False)
class Incomparable:
    x: int


class Spot(NamedTuple):
    x: int
    y: int = 0


class Row(TypedDict):
    id: int
    name: NotRequired[str]


@with_config(ConfigDict(extra="allow"))
class OpenRow(TypedDict):
    id: int


async def test_dataclasses_typed_dicts_and_plain_types_survive() -> None:
    arrived = await Delivery(Order).send("tea", count=2, discount=5)
    assert (arrived.item, arrived.notes, arrived.total) == ("tea", ["made"], 15)
    assert (await Delivery(Incomparable).send(3)).x == 3
    assert (await Delivery(Incomparable).send(Incomparable(3))).x == 3
    assert (await Delivery(list[Incomparable]).send([Incomparable(3)]))[0].x == 3
    assert await Delivery(Spot).send(Spot(1, 2)) == Spot(1, 2)
    assert await Delivery(Row).send(id=1) == {"id": 1}
    assert await Delivery(Row).send({"id": 1, "name": "a"}) == {"id": 1, "name": "a"}
    assert await Delivery(OpenRow).send(id=1, more="b") == {"id": 1, "more": "b"}
    assert await Delivery(int | str).send("3") == "3"
    assert await Delivery(int | None).send(None) is None
    assert await Delivery(list[Row | int]).send([{"id": 1}, 2]) == [{"id": 1}, 2]


async def test_a_call_may_use_the_alias_of_a_pydantic_dataclass() -> None:
    @pydantic_dataclass
    class Resize:
        width: int
        height: int = Field(default=1, alias="h")

    assert (await Delivery(Resize).send(width=2, h=3)).height == 3
    for wrong in ("hieght", "height"):  # pydantic ignores the name of a field that has an alias
        with pytest.raises(ValidationError, match="unknown field; the fields are h, width"):
            await Delivery(Resize).send(width=2, **{wrong: 3})


async def test_an_object_without_equality_is_compared_by_its_attributes() -> None:
    class Opaque:
        def __init__(self, value: int) -> None:
            self.value = value

    def opaque(value: int) -> Opaque:
        return Opaque(value)

    declared = Annotated[Any, AfterValidator(opaque)]
    assert (await Delivery(declared).send(3)).value == 3


async def test_a_type_adapter_is_not_accepted_as_a_type() -> None:
    with pytest.raises(DefinitionError, match="input cannot be TypeAdapter"):
        Delivery(TypeAdapter(int))
