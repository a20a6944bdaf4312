"""A secret is stored only as a serializer of its model writes it, and is never shown."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

import pytest
from pydantic import (
    AliasPath,
    BaseModel,
    Field,
    PlainSerializer,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    field_serializer,
    field_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from flowli_core import Jobs, ValidationError, job
from flowli_core._wire.codec import Codec
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.testing import drain
from tests.support.delivery import Delivery

CLEAR = "hunter2"

any_job: Any = job


class Login(BaseModel):
    user: str = "ada"
    password: SecretStr


class Nested(BaseModel):
    logins: list[Login] = []
    by_name: dict[str, SecretStr] = {}


class Others(BaseModel):
    key: SecretBytes | None = None
    day: Secret[date] | None = None
    deep: Any = None


class OwnSecret(SecretStr):
    pass


class Rooted(RootModel[SecretStr]):
    pass


@dataclass
class Plain:
    password: SecretStr


@pydantic_dataclass
class Checked:
    password: SecretStr


class Row(TypedDict):
    password: SecretStr


class Aliased(BaseModel):
    password: OwnSecret = Field(validation_alias="passWord")


@pytest.mark.parametrize(
    ("declared", "args", "kwargs"),
    [
        pytest.param(Login, (), {"password": CLEAR}, id="field"),
        pytest.param(Login, (), {"password": SecretStr(CLEAR)}, id="field that is a secret"),
        pytest.param(Login, (Login(password=SecretStr(CLEAR)),), {}, id="instance"),
        pytest.param(Login, ({"password": CLEAR},), {}, id="dict"),
        pytest.param(Nested, (), {"logins": [{"password": CLEAR}]}, id="in a list"),
        pytest.param(Nested, (), {"by_name": {"a": CLEAR}}, id="in a dict"),
        pytest.param(Others, (), {"key": CLEAR.encode()}, id="bytes"),
        pytest.param(Others, (), {"day": "2026-01-02"}, id="secret of another type"),
        pytest.param(Others, (), {"deep": [SecretStr(CLEAR)]}, id="in an Any field"),
        pytest.param(Aliased, (), {"passWord": CLEAR}, id="class of the user's own, with an alias"),
        pytest.param(Rooted, (CLEAR,), {}, id="root model"),
        pytest.param(Plain, (CLEAR,), {}, id="dataclass"),
        pytest.param(Plain, (Plain(SecretStr(CLEAR)),), {}, id="instance of a dataclass"),
        pytest.param(Checked, (), {"password": CLEAR}, id="pydantic dataclass"),
        pytest.param(Row, (), {"password": CLEAR}, id="typed dict"),
        pytest.param(SecretStr, (CLEAR,), {}, id="secret itself"),
        pytest.param(list[SecretStr], ([CLEAR],), {}, id="list of secrets"),
        pytest.param(set[SecretStr], ([CLEAR],), {}, id="set of secrets"),
        pytest.param(dict[SecretStr, int], ({CLEAR: 1},), {}, id="secret as a key"),
    ],
)
async def test_a_secret_is_not_stored_in_clear_text(declared: Any, args: Any, kwargs: Any) -> None:
    delivery = Delivery(declared)
    await delivery.jobs.take.run(*args, **kwargs)  # stores nothing
    with pytest.raises(ValidationError) as caught:
        await delivery.jobs.take.enqueue(*args, **kwargs)
    assert CLEAR not in str(caught.value)
    assert delivery.driver.enqueued == []
    if "deep" not in kwargs:
        assert "a secret is not stored in clear text; give a reference to it, or write it with" in str(caught.value)


async def test_a_secret_in_a_meta_a_schedule_or_a_json_is_refused_too() -> None:
    with pytest.raises(ValidationError, match=r"take: meta is not valid: password: a secret"):
        await Delivery(int, meta=Login).jobs.take.enqueue(1, meta={"password": CLEAR})
    jobs = Delivery(Login).jobs
    with pytest.raises(ValidationError, match="a secret is not stored"):
        await jobs.take.schedule("k", every="1h", input={"password": CLEAR})
    with pytest.raises(ValidationError, match="a secret is not stored"):
        await jobs.take.enqueue_many([{"password": CLEAR}])
    with pytest.raises(ValidationError, match="a secret is not stored"):
        Codec[Login](Login, label="take").pack_json(json.dumps({"password": CLEAR}).encode())


async def test_a_default_that_is_a_secret_is_in_the_code_and_not_in_the_store() -> None:
    class Configured(BaseModel):
        name: str
        key: SecretStr = SecretStr("from the code")

    assert (await Delivery(Configured).send(name="a")).key.get_secret_value() == "from the code"
    assert (await Delivery(Configured).send(Configured(name="a"))).name == "a"
    assert (await Delivery(list[Configured]).send([Configured(name="a")]))[0].name == "a"


class Clear(BaseModel):
    """A model whose author has decided to store the password in clear text."""

    user: str = ""
    password: SecretStr
    _keep: int = 0

    @field_serializer("password", when_used="json")
    def write(self, password: SecretStr) -> str:
        return password.get_secret_value()


class Encrypted(BaseModel):
    """A model that stores its password encrypted, or so it pretends."""

    password: SecretStr

    @field_serializer("password", when_used="json")
    def encrypt(self, password: SecretStr) -> str:
        return "enc:" + base64.b64encode(password.get_secret_value().encode()).decode()

    @field_validator("password", mode="before")
    @classmethod
    def decrypt(cls, value: Any) -> Any:
        if isinstance(value, str) and value.startswith("enc:"):
            return base64.b64decode(value[4:]).decode()
        return value


ClearSecret = Annotated[SecretStr, PlainSerializer(SecretStr.get_secret_value, when_used="json")]


@dataclass
class ClearPlain:
    password: ClearSecret


@pytest.mark.parametrize("declared", [Clear, Encrypted, ClearPlain])
async def test_a_secret_is_stored_as_its_serializer_writes_it(declared: Any) -> None:
    delivery = Delivery(declared)
    arrived = await delivery.send(password=CLEAR)
    assert arrived.password.get_secret_value() == CLEAR
    assert (CLEAR.encode() in delivery.wire) == (declared is not Encrypted)
    again = await delivery.send(arrived)
    assert again.password.get_secret_value() == CLEAR


async def test_json_with_a_secret_is_stored_as_the_serializer_writes_it() -> None:
    codec = Codec[Encrypted](Encrypted, label="take")
    wire = codec.pack_json(json.dumps({"password": CLEAR}).encode())
    assert CLEAR.encode() not in wire
    assert codec.pack_json(wire) == wire


class Paths(BaseModel):
    user: str = ""
    password: ClearSecret = Field(validation_alias=AliasPath("secrets", 0), serialization_alias="passWord")


class Everything(BaseModel):
    plain: str = "shown"
    one: Clear
    many: list[Encrypted] = []
    by_name: dict[str, ClearSecret] = {}
    pair: tuple[str, ClearSecret] | None = None
    part: ClearPlain | None = None
    paths: Paths | None = None


async def test_a_stored_secret_is_masked_where_a_record_is_shown() -> None:
    async def handler(input: Everything) -> Clear:
        return input.one

    class AppJobs(Jobs[None]):
        work = any_job(Everything, meta=Clear, name="work")(handler)

    given = Everything(
        one=Clear(user="u", password=SecretStr(CLEAR)),
        many=[Encrypted(password=SecretStr(CLEAR))],
        by_name={"a": SecretStr(CLEAR)},
        pair=("p", SecretStr(CLEAR)),
        part=ClearPlain(SecretStr(CLEAR)),
        paths=Paths.model_validate({"secrets": [CLEAR]}),
    )
    async with AppJobs(context=None, driver=MemoryDriver()) as jobs:
        receipt = await jobs.work.options(meta={"password": CLEAR}).enqueue(given)
        await jobs.work.schedule("k", every="1h", input=given, meta={"password": CLEAR})
        await drain(jobs)
        record = await jobs.inspect.get_job(receipt.id)
        page = await jobs.inspect.find("completed")
        schedule = await jobs.inspect.get_schedule("k")
        schedules = await jobs.inspect.get_schedules()
        typed = await jobs.work.get(receipt)
    assert record is not None
    assert schedule is not None
    assert typed is not None
    mask = "**********"
    assert record.input == {
        "one": {"user": "u", "password": mask},
        "many": [{"password": mask}],
        "by_name": {"a": mask},
        "pair": ["p", mask],
        "part": {"password": mask},
        "paths": {"password": mask},
    }
    assert record.result == {"user": "u", "password": mask}
    assert record.meta == schedule.meta == {"password": mask}
    assert (page.items[0].input, schedule.input, schedules.items[0].input) == (record.input,) * 3
    assert CLEAR not in repr((record, page, schedule, schedules, typed))
    assert typed.input.one.password.get_secret_value() == CLEAR


async def test_a_payload_that_cannot_be_read_any_more_is_masked_if_it_may_hold_a_secret() -> None:
    memory = MemoryDriver()

    async def handler(input: Any) -> None: ...

    class Old(Jobs[None]):
        work = any_job(dict[str, Any], name="work")(handler)

    class New(Jobs[None]):
        work = any_job(Login, name="work")(handler)

    await Old(context=None, driver=memory).work.enqueue({"passwd": CLEAR})
    (record,) = (await New(context=None, driver=memory).inspect.find("queued")).items
    assert record.input == "**********"
