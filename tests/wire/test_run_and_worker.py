"""A handler sees the same in `run` and in a worker, in every respect, or the call is refused."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasGenerator,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    RootModel,
    Tag,
    TypeAdapter,
    field_serializer,
    model_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypeAliasType, TypedDict

from flowli_core import ValidationError
from tests.support.delivery import Delivery
from tests.support.seen import seen

T = TypeVar("T")

PARIS = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Paris"))


async def deliver(declared: Any, *args: Any, **kwargs: Any) -> Any:
    """Give a call to `run` and to a worker, check that both handlers see the same, and return it."""
    delivery = Delivery(declared)
    await delivery.jobs.take.run(*args, **kwargs)
    in_run = delivery.received[-1]
    in_worker = await delivery.send(*args, **kwargs)
    assert seen(in_run) == seen(in_worker)
    return in_worker


class Patch(BaseModel):
    name: str | None = None
    email: str | None = None


class Address(BaseModel):
    street: str = ""
    town: str = ""


class Person(BaseModel):
    name: str
    address: Address = Address()
    others: list[Address] = []
    by_kind: dict[str, Address] = {}
    pair: tuple[Address, ...] = ()


class Rooted(RootModel[list[Patch]]):
    pass


@dataclass
class Holder:
    patch: Patch
    more: list[Patch] = field(default_factory=list[Patch])


class Row(TypedDict):
    patch: Patch


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        pytest.param(Patch, Patch(name="Ada"), id="model"),
        pytest.param(Patch, Patch(), id="model without a field"),
        pytest.param(Patch, Patch(name=None), id="field set to its default"),
        pytest.param(Person, Person(name="a", address=Address(town="b")), id="nested model"),
        pytest.param(Person, Person(name="a", others=[Address(), Address(street="c")]), id="models in a list"),
        pytest.param(Person, Person(name="a", by_kind={"k": Address(town="t")}), id="models in a dict"),
        pytest.param(Person, Person(name="a", pair=(Address(), Address(town="t"))), id="models in a tuple"),
        pytest.param(Rooted, Rooted([Patch(name="a"), Patch()]), id="models in a root model"),
        pytest.param(Holder, Holder(Patch(name="a"), [Patch(email="b")]), id="model in a dataclass"),
        pytest.param(Row, {"patch": Patch(email="b")}, id="model in a typed dict"),
        pytest.param(list[Patch], [Patch(name="a"), Patch(email="b")], id="list of models"),
        pytest.param(Patch | int, Patch(name="a"), id="model in a union"),
    ],
)
async def test_the_fields_that_were_set_are_those_that_a_worker_sees(declared: Any, value: Any) -> None:
    await deliver(declared, value)


async def test_the_fields_of_a_call_are_those_that_a_worker_sees() -> None:
    assert (await deliver(Patch, name="Ada")).model_fields_set == {"name"}
    assert (await deliver(Patch, {"email": "a"})).model_fields_set == {"email"}
    person = await deliver(Person, name="Ada", address=Address(town="b"))
    assert person.address.model_fields_set == {"town"}


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    name: str | None = None
    age: int | None = None


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str | None = None
    age: int | None = None


def kind_of(value: Any) -> Any:
    """Return the tag of a pet, or of the JSON of one."""
    given: Any = value
    return given["kind"] if isinstance(value, dict) and "kind" in given else getattr(given, "kind", None)


Tagged = Annotated[Annotated[Cat, Tag("cat")] | Annotated[Dog, Tag("dog")], Discriminator(kind_of)]


class Pets(BaseModel):
    """Unions of models, each read in another way."""

    tagged: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = []
    called: list[Tagged] = []
    smart: list[Cat | Dog] = []


@pytest.mark.parametrize("field", ["tagged", "called", "smart"])
@pytest.mark.parametrize("pet", [Cat(name="Tom"), Dog(name="Rex"), Dog(), Dog(kind="dog")])
async def test_the_default_of_a_tag_is_written_and_no_other_default(field: str, pet: Cat | Dog) -> None:
    """JSON needs the tag, so the tag counts as set, in `run` as well. The other fields stay as they are."""
    arrived = await deliver(Pets, Pets.model_validate({field: [pet]}))
    (found,) = getattr(arrived, field)
    assert found.model_fields_set | {"kind"} == pet.model_fields_set | {"kind"}
    assert type(await deliver(Cat | Dog, pet)) is type(pet)
    assert type(await deliver(Tagged, pet)) is type(pet)


class Stamped(BaseModel):
    name: str | None = None
    email: str | None = None
    id: UUID = Field(default_factory=uuid4)
    tags: list[str] = Field(default_factory=list)
    lines: list[str] = []


async def test_a_default_that_changes_is_made_at_the_call_and_leaves_other_fields_unset() -> None:
    made = Stamped(name="a")
    arrived = await deliver(Stamped, made)
    assert (arrived.id, arrived.model_fields_set) == (made.id, {"name", "id"})
    assert made.model_fields_set == {"name"}
    delivery = Delivery(Stamped)
    assert (await delivery.send(name="a")).model_fields_set == {"name", "id"}


class Status(StrEnum):
    OPEN = "open"


class Ticket(BaseModel):
    id: UUID = Field(default_factory=uuid4)
    status: Status = Status.OPEN
    level: Literal["low", "high"] = "low"
    address: Address = Address()


async def test_a_changing_default_beside_an_enum_or_a_literal_marks_only_itself_as_set() -> None:
    """A handler that writes the fields that are set would otherwise reset the status."""
    assert (await deliver(Ticket, Ticket())).model_fields_set == {"id"}
    made = Ticket(id=UUID(int=1))
    made.address.town = "b"
    arrived = await deliver(Ticket, made)
    assert (arrived.model_fields_set, arrived.address.model_fields_set) == ({"id", "address"}, {"town"})


async def test_a_default_that_was_changed_in_place_is_written() -> None:
    made = Stamped(email="b", id=UUID(int=1))
    made.tags.append("new")
    made.lines.append("tea")
    arrived = await deliver(Stamped, made)
    assert (arrived.tags, arrived.lines) == (["new"], ["tea"])
    assert arrived.model_fields_set == {"email", "id", "tags", "lines"}
    nested = Person(name="a", others=[Address()])
    nested.address.town = "b"
    assert (await deliver(Person, nested)).address.town == "b"


async def test_a_default_is_not_made_again_though_it_is_equal_at_the_call() -> None:
    """Midnight may pass before a worker runs the job."""

    class Report(BaseModel):
        name: str
        day: str = Field(default_factory=lambda: "today")

    delivery = Delivery(Report)
    await delivery.send(name="a")
    assert b"today" in delivery.wire
    await delivery.send(Report(name="a"))
    assert b"today" in delivery.wire


class Written(BaseModel):
    """A model with a serializer of its own, which writes unset fields as well."""

    name: str
    email: str | None = None

    @model_serializer
    def write(self) -> dict[str, Any]:
        return {"name": self.name, "email": self.email}


async def test_a_model_that_writes_its_unset_fields_has_them_set_in_run_too() -> None:
    assert (await deliver(Written, Written(name="a"))).model_fields_set == {"name", "email"}


async def test_the_problem_that_is_named_is_the_one_that_the_caller_can_solve() -> None:
    class Report(BaseModel):
        id: UUID = Field(default_factory=uuid4)
        at: datetime

    for args, kwargs in (((Report(at=PARIS),), {}), ((), {"at": PARIS})):
        with pytest.raises(ValidationError, match="is not valid: at: JSON keeps the offset of a time but not its zone"):
            await Delivery(Report).send(*args, **kwargs)


class Slugged(BaseModel):
    name: str
    slug: str | None = None

    @model_validator(mode="after")
    def fill(self) -> Slugged:
        self.slug = self.name.lower()
        return self


async def test_a_field_that_a_validator_has_set_is_set_in_a_worker_too() -> None:
    assert (await deliver(Slugged, Slugged(name="Ada"))).slug == "ada"
    assert (await deliver(Slugged, name="Ada")).model_fields_set == {"name", "slug"}


class Webhook(BaseModel):
    user_id: int = Field(validation_alias="userID")


class Deep(BaseModel):
    number: int = Field(validation_alias=AliasPath("data", "numbers", 1))


class Choosy(BaseModel):
    one: int = Field(validation_alias=AliasChoices("uno", AliasPath("many", 0)))
    two: int = Field(default=0, validation_alias="in", serialization_alias="out")


class Incoming(BaseModel):
    model_config = ConfigDict(alias_generator=AliasGenerator(validation_alias=to_camel))
    first_name: str
    webhook: Webhook


class Outgoing(BaseModel):
    model_config = ConfigDict(alias_generator=AliasGenerator(serialization_alias=to_camel))
    first_name: str


class Both(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    first_name: str
    hooks: list[Choosy] = []


class Swapped(BaseModel):
    a: int = Field(alias="b")
    b: int = Field(alias="a")


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    user_id: int = Field(validation_alias="userID")


class Aliased(BaseModel):
    kind: Literal["aliased"] = Field("aliased", validation_alias="type", serialization_alias="Kind")
    size: int = 0


class Other(BaseModel):
    kind: Literal["other"] = Field("other", validation_alias="type", serialization_alias="Kind")
    size: int = 0


@pydantic_dataclass
class Dated:
    day: int = Field(validation_alias="Day")
    hook: Webhook | None = None


class AliasedRow(TypedDict):
    id: Annotated[int, Field(validation_alias="ID")]


Pet = Annotated[Aliased | Other, Field(discriminator="kind")]


@pytest.mark.parametrize(
    ("declared", "body"),
    [
        (Webhook, '{"userID": 3}'),
        (Deep, '{"data": {"numbers": [1, 2]}}'),
        (Choosy, '{"uno": 1, "in": 2}'),
        (Choosy, '{"many": [4]}'),
        (Incoming, '{"firstName": "Ada", "webhook": {"userID": 3}}'),
        (Outgoing, '{"first_name": "Ada"}'),
        (Both, '{"firstName": "Ada", "hooks": [{"uno": 1}]}'),
        (Swapped, '{"a": 1, "b": 2}'),
        (Closed, '{"userID": 3}'),
        (list[Pet], '[{"type": "other", "size": 3}, {"type": "aliased"}]'),
        (Dated, '{"Day": 3, "hook": {"userID": 4}}'),
        (AliasedRow, '{"ID": 3}'),
    ],
)
async def test_a_body_that_was_read_by_aliases_of_any_kind_can_be_enqueued(declared: Any, body: str) -> None:
    """A framework has validated the body, and the route gives the instance."""
    value = TypeAdapter(declared).validate_json(body)
    assert await deliver(declared, value) == value


async def test_a_meta_that_was_read_by_aliases_can_be_enqueued() -> None:
    delivery = Delivery(int, meta=Webhook)
    await delivery.jobs.take.enqueue(1, meta=Webhook.model_validate({"userID": 3}))
    assert b"3" in (delivery.driver.enqueued[-1].meta or b"")


@dataclass
class Change(Generic[T]):
    old: T
    new: T


@pydantic_dataclass
class Checked(Generic[T]):
    old: T
    new: T


class Box(BaseModel, Generic[T]):
    content: T


class Entry(TypedDict, Generic[T]):
    content: T


class Sized(BaseModel):
    size: int


def positive(sized: Sized) -> Sized:
    if sized.size < 0:
        raise ValueError("must be positive")
    return sized


def doubled(fields: Any) -> Any:
    given: Any = fields
    return {"size": given["size"] * 2} if isinstance(fields, dict) else given


SizedId = NewType("SizedId", Sized)
SizedAlias = TypeAliasType("SizedAlias", Sized)
ChangeOf = TypeAliasType("ChangeOf", Change[T], type_params=(T,))


@pytest.mark.parametrize(
    ("declared", "fields", "wrong"),
    [
        pytest.param(Change[int], {"old": 1, "new": 2}, {"old": "x", "new": 2}, id="generic dataclass"),
        pytest.param(Checked[int], {"old": 1, "new": 2}, {"old": "x", "new": 2}, id="generic pydantic dataclass"),
        pytest.param(Box[int], {"content": 1}, {"content": "x"}, id="generic model"),
        pytest.param(Entry[int], {"content": 1}, {"content": "x"}, id="generic typed dict"),
        pytest.param(Annotated[Sized, "note"], {"size": 1}, {"size": "x"}, id="Annotated"),
        pytest.param(Annotated[Sized, AfterValidator(positive)], {"size": 1}, {"size": -1}, id="Annotated validator"),
        pytest.param(Annotated[Sized, BeforeValidator(doubled)], {"size": 1}, {"size": "x"}, id="validator before"),
        pytest.param(
            Annotated[Change[int], "note"], {"old": 1, "new": 2}, {"old": "x", "new": 2}, id="Annotated generic"
        ),
        pytest.param(SizedId, {"size": 1}, {"size": "x"}, id="NewType"),
        pytest.param(SizedAlias, {"size": 1}, {"size": "x"}, id="type alias"),
        pytest.param(ChangeOf[int], {"old": 1, "new": 2}, {"old": "x", "new": 2}, id="generic type alias"),
        pytest.param(Annotated[SizedId, "note"], {"size": 1}, {"size": "x"}, id="Annotated NewType"),
    ],
)
async def test_a_type_that_stands_for_a_class_takes_the_fields_of_the_class(
    declared: Any, fields: dict[str, Any], wrong: dict[str, Any]
) -> None:
    made = await deliver(declared, **fields)
    if not dataclasses.is_dataclass(made):
        assert seen(await deliver(declared, fields)) == seen(made)
    if not isinstance(made, dict) and "before" not in str(declared).lower():
        assert seen(await deliver(declared, made)) == seen(made)
    delivery = Delivery(declared)
    for call in (delivery.jobs.take.run, delivery.jobs.take.enqueue):
        with pytest.raises(ValidationError, match="is not valid"):
            await call(**wrong)
        with pytest.raises(ValidationError, match="unknown field"):
            await call(**fields, more=1)


async def test_an_instance_of_a_parametrised_dataclass_is_validated() -> None:
    for declared, value in ((Change[int], Change("x", 2)), (Checked[int], Checked[Any]("x", 2))):
        for call in (Delivery(declared).jobs.take.run, Delivery(declared).jobs.take.enqueue):
            with pytest.raises(ValidationError, match="old: Input should be a valid integer, unable to parse"):
                await call(value)


class Color(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 1


class Plain(Enum):
    RED = "red"


class Spot(NamedTuple):
    x: int


class Loose(BaseModel):
    body: Any


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        pytest.param(Any, Color.RED, id="StrEnum"),
        pytest.param(Any, Level.HIGH, id="IntEnum"),
        pytest.param(Any, Plain.RED, id="Enum"),
        pytest.param(Any, [Color.RED], id="enum in a list"),
        pytest.param(Any, {Color.RED: 1}, id="enum as a key"),
        pytest.param(Any, {"a": {"b": Level.HIGH}}, id="enum in dicts"),
        pytest.param(Any, defaultdict(int, a=1), id="defaultdict"),
        pytest.param(Any, OrderedDict([("a", 1)]), id="OrderedDict"),
        pytest.param(Any, Spot(1), id="named tuple"),
        pytest.param(Any, {"a": (1, 2)}, id="tuple"),
        pytest.param(Any, Decimal("1.50"), id="Decimal"),
        pytest.param(Any, datetime(2026, 1, 1, tzinfo=UTC), id="datetime"),
        pytest.param(Any, type("Text", (str,), {})("a"), id="subclass of str"),
        pytest.param(Any, Patch(name="a"), id="model"),
        pytest.param(Loose, Loose(body=Color.RED), id="enum in an Any field"),
        pytest.param(Loose, Loose(body=defaultdict(list)), id="defaultdict in an Any field"),
        pytest.param(time, time(12, tzinfo=ZoneInfo("Europe/Paris")), id="time in a zone"),
        pytest.param(datetime, datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Paris")), id="datetime in a zone"),
    ],
)
async def test_what_json_would_turn_into_another_type_is_refused(declared: Any, value: Any) -> None:
    with pytest.raises(ValidationError, match=r"comes back from JSON|JSON keeps the offset"):
        await Delivery(declared).send(value)


async def test_a_str_or_int_field_takes_an_enum_as_its_value_in_run_and_in_a_worker() -> None:
    class Order(BaseModel):
        color: str
        level: int

    arrived = await deliver(Order, color=Color.RED, level=Level.HIGH)
    assert (type(arrived.color), type(arrived.level)) == (str, int)


async def test_a_declared_container_keeps_its_type() -> None:
    class Everything(BaseModel):
        counts: defaultdict[str, int]
        order: OrderedDict[str, int]
        last: deque[int]
        spot: Spot
        color: Color
        members: frozenset[Color]

    made = Everything(
        counts=defaultdict(int, a=1),
        order=OrderedDict(b=1, a=2),
        last=deque([1, 2]),
        spot=Spot(1),
        color=Color.RED,
        members=frozenset(Color),
    )
    assert await deliver(Everything, made) == made


async def test_a_decimal_that_is_written_as_a_float_is_refused_if_it_loses_its_zeros() -> None:
    class Price(BaseModel):
        amount: Decimal

        @field_serializer("amount")
        def as_float(self, amount: Decimal) -> float:
            return float(amount)

    assert await deliver(Price, Price(amount=Decimal("1.5")))
    with pytest.raises(ValidationError, match="amount: does not come back from JSON as it was"):
        await Delivery(Price).send(Price(amount=Decimal("1.50")))


async def test_a_dataclass_field_that_is_not_compared_is_compared_here() -> None:
    @dataclass
    class Noted:
        name: str
        note: Any = field(default="", compare=False)
        cache: int = field(default=0, init=False, compare=False)

    noted = Noted("a", "b")
    noted.cache = 5
    assert (await Delivery(Noted).send(noted)).note == "b"
    with pytest.raises(ValidationError, match="note: comes back from JSON as list, not as tuple"):
        await Delivery(Noted).send(Noted("a", (1,)))


class Item(BaseModel):
    count: int


@dataclass
class Part:
    count: Annotated[int, Field(ge=0)]


@dataclass
class Order:
    parts: list[Part]
    by_name: dict[str, Part] = field(default_factory=dict[str, Part])


class Cart(BaseModel):
    part: Part | None = None
    items: list[Item] = []


anything: Any = "three"


def overwritten() -> Cart:
    """Return a model whose nested model was given a value of the wrong type after its validation."""
    item = Item(count=1)
    item.count = anything
    return Cart(items=[item])


@pytest.mark.parametrize(
    ("declared", "value", "path"),
    [
        pytest.param(Order, Order([Part(anything)]), r"parts\.0\.count", id="dataclass in a dataclass"),
        pytest.param(Order, Order([Part(-1)]), r"parts\.0\.count", id="dataclass that breaks a constraint"),
        pytest.param(Order, Order([], {"a": Part(anything)}), r"by_name\.\[...\]\.count", id="dataclass in a dict"),
        pytest.param(list[Part], [Part(1), Part(anything)], r"1\.count", id="list of dataclasses"),
        pytest.param(Part | None, Part(-1), "count", id="dataclass in a union"),
        pytest.param(Cart, Cart(part=Part(anything)), r"part\.count", id="dataclass in a model"),
        pytest.param(int | Cart, Cart(part=Part(-1)), "cannot be read back", id="dataclass in a model in a union"),
        pytest.param(Cart, overwritten(), r"items\.0\.count", id="model that was overwritten"),
    ],
)
async def test_run_refuses_an_invalid_instance_at_any_depth_as_enqueue_does(
    declared: Any, value: Any, path: str
) -> None:
    delivery = Delivery(declared)
    for call in (delivery.jobs.take.run, delivery.jobs.take.enqueue):
        with pytest.raises(ValidationError, match=path):
            await call(value)
    assert delivery.received == []


async def test_run_refuses_invalid_instances_among_the_fields_of_a_call() -> None:
    delivery = Delivery(Order)
    with pytest.raises(ValidationError, match=r"parts\.0\.count"):
        await delivery.jobs.take.run(parts=[Part(anything)])
    assert (await deliver(Order, parts=[Part(1)])).parts == [Part(1)]
