"""Jobs with inputs of every kind, and values that none of them accepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from typing_extensions import TypedDict

from flowli_core import Jobs, job
from tests.support.refusals import SECRET


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Letter(BaseModel):
    to: str
    copies: int = 1
    weight: float = 0.0
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    body: Any = None


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    to: str


class Login(BaseModel):
    password: SecretStr
    attempts: int = 0


class Postcard(BaseModel):
    picture: str


class Row(TypedDict):
    id: int


class Tree(BaseModel):
    name: str = ""
    branches: list[Tree] = []


@dataclass
class Point:
    x: int
    y: int = 0


class Meta(BaseModel):
    request_id: str


ran: list[object] = []


@job(Letter, meta=Meta)
async def letter(input: Letter) -> None:
    ran.append(input)


@job(Strict)
async def strict(input: Strict) -> None:
    ran.append(input)


@job(Login)
async def login(input: Login) -> None:
    ran.append(input)


@job(Row)
async def row(input: Row) -> None:
    ran.append(input)


@job(Point)
async def point(input: Point) -> None:
    ran.append(input)


@job(Tree)
async def tree_of(input: Tree) -> None:
    ran.append(input)


@job(list[int])
async def numbers(input: list[int]) -> None:
    ran.append(input)


@job(int)
async def number(input: int) -> None:
    ran.append(input)


@job(Any)
async def anything(input: Any) -> None:
    ran.append(input)


@job()
async def bare() -> None:
    ran.append(None)


class AppJobs(Jobs[None]):
    letter = letter
    strict = strict
    login = login
    row = row
    point = point
    tree = tree_of
    number = number
    numbers = numbers
    anything = anything
    bare = bare


def nested(levels: int) -> object:
    """Make lists within lists."""
    value: object = SECRET
    for _ in range(levels):
        value = [value]
    return value


def cycle() -> list[object]:
    """Make a list that contains itself."""
    value: list[object] = [SECRET]
    value.append(value)
    return value


def tree(levels: int) -> dict[str, object]:
    """Make a tree with a single branch."""
    value: dict[str, object] = {"name": SECRET}
    for _ in range(levels):
        value = {"branches": [value]}
    return value


def wrong_point() -> Point:
    """Make a dataclass with a value of the wrong type."""
    anything: Any = SECRET
    return Point(anything)


def login_of(password: str) -> Login:
    """Make a model with a secret."""
    return Login(password=SecretStr(password))


def mutated() -> Letter:
    """Make a model whose field was overwritten with a value of the wrong type."""
    made = Letter(to="a")
    anything: Any = SECRET
    made.copies = anything
    return made
