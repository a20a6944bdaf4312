"""Invalid inputs and metas are refused at the call: nothing is stored, and no handler runs."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from flowli_core import ValidationError
from tests.support.counting import CountingDriver
from tests.support.payloads import (
    AppJobs,
    Letter,
    Postcard,
    Strict,
    cycle,
    login_of,
    mutated,
    nested,
    ran,
    tree,
    wrong_point,
)
from tests.support.refusals import SECRET, Refused, assert_error, refuse_call, table

DEPTH = 64
SIZE = 256 * 1024


def wrong(case: int | str, what: str, name: str, /, *says: str, args: tuple[Any, ...] = (), **kwargs: Any) -> Refused:
    """Describe a call of the job `name` that raises a ValidationError."""

    def do(given: tuple[AppJobs, str]) -> Any:
        jobs, verb = given
        delay = ("10m",) if verb == "delay" else ()
        return getattr(getattr(jobs, name), verb)(*delay, *args, **kwargs)

    return Refused(case, what, do, ValidationError, says)


LETTER = (Letter(to="a"),)

EVERYWHERE = [
    wrong(13, "wrong type", "letter", "letter: input", "copies:", "integer", "got str", to="a", copies=SECRET),
    wrong(13, "wrong type in a dict", "letter", "copies:", "got list", args=({"to": "a", "copies": [SECRET]},)),
    wrong(13, "wrong tag", "letter", "pet:", "'cat', 'dog'", "got dict", to="a", pet={"kind": SECRET}),
    wrong(13, "two wrong types", "point", "x:", "y:", args=(SECRET, SECRET)),
    wrong(13, "wrong type of a plain input", "number", "number: input", "got str", args=(SECRET,)),
    wrong(13, "wrong type in a typed dict", "row", "id:", "got str", id=SECRET),
    wrong(13, "wrong type in a dataclass", "point", "x:", "got str", args=(wrong_point(),)),
    wrong(13, "a thousand wrong types", "numbers", "0:", "4:", "and 995 more", args=([SECRET] * 1000,)),
    wrong(14, "missing field", "letter", "to: Field required", copies=3),
    wrong(14, "missing input", "letter", "to: Field required"),
    wrong(14, "missing plain input", "number", "give the value itself"),
    wrong(14, "missing field of a dataclass", "point", "missing a required argument: 'x'", y=3),
    wrong(14, "missing field of a typed dict", "row", "id: Field required"),
    wrong(14, "two plain inputs", "number", "give the value itself", args=(1, 2)),
    wrong(15, "extra field", "letter", "unknown field; the fields are body, copies", to="a", sujbect=SECRET),
    wrong(15, "extra field of a typed dict", "row", "unknown field; the fields are id", id=1, title=SECRET),
    wrong(15, "extra field of a dataclass", "point", "unknown field", "the fields are x, y", x=1, zz=SECRET),
    wrong(15, "extra field of a strict model", "strict", "[...]: Extra inputs", args=({"to": "a", "more": SECRET},)),
    wrong(15, "unknown option", "letter", "meta, queue and key, and nothing else", args=LETTER, priority=SECRET),
    wrong(15, "input for a job without", "bare", "bare takes no input", args=(SECRET,)),
    wrong(15, "field for a job without input", "bare", "bare takes no input", to=SECRET),
    wrong(15, "meta for a job without", "strict", "strict takes no meta", args=(Strict(to="a"),), meta={"t": SECRET}),
    wrong(25, "input of another job", "letter", "Letter", "got Postcard", args=(Postcard(picture=SECRET),)),
    wrong(26, "wrong field beside a secret", "login", "attempts:", password=SECRET, attempts="many"),
    wrong(13, "wrong meta", "letter", "letter: meta", "request_id:", args=LETTER, meta={"request_id": [SECRET]}),
    wrong(21, "a tree of 5,000 levels", "tree", "depth exceeded", args=(tree(5_000),)),
]

ON_THE_WIRE = [
    wrong(16, "NaN", "letter", "weight: cannot be read back", "JSON has no NaN", to=SECRET, weight=math.nan),
    wrong(16, "infinity", "letter", "weight: cannot be read back", "JSON has no NaN", to=SECRET, weight=math.inf),
    wrong(
        16,
        "NaN among anything",
        "anything",
        "1: comes back from JSON as NoneType",
        args=([SECRET, math.nan],),
    ),
    wrong(17, "lone surrogate", "anything", "cannot be written as JSON", "surrogates", args=([SECRET, "\ud800"],)),
    wrong(18, "bytes", "anything", "comes back from JSON as str, not as bytes", args=(SECRET.encode(),)),
    wrong(18, "bytes that are no text", "anything", "cannot be written as JSON", args=(b"\xff" + SECRET.encode(),)),
    wrong(18, "set", "anything", "as list, not as set", args=({SECRET},)),
    wrong(18, "tuple", "anything", "as list, not as tuple", args=((SECRET,),)),
    wrong(
        18,
        "datetime",
        "anything",
        "1: comes back from JSON as str",
        args=([SECRET, datetime(2026, 1, 1, tzinfo=UTC)],),
    ),
    wrong(18, "object", "anything", "Unable to serialize unknown type", args=([SECRET, object()],)),
    wrong(19, "number as a key", "anything", "with other keys; JSON's keys are text", args=({1: SECRET},)),
    wrong(20, "cycle", "anything", "Circular reference", args=(cycle(),)),
    wrong(21, "depth 65", "anything", "nests deeper than 64 levels", args=(nested(DEPTH + 1),)),
    wrong(21, "depth 65 in a model", "letter", "nests deeper than 64 levels", to="a", body=nested(DEPTH)),
    wrong(21, "depth 100,000", "anything", "nests too deep", args=(nested(100_000),)),
    wrong(22, "300 KiB", "letter", "is 301 KiB", "limit is 256 KiB", to=SECRET, body="x" * 300 * 1024),
    wrong(22, "a byte too many", "anything", "is 257 KiB", "store a reference", args=("x" * (SIZE - 1),)),
    wrong(22, "meta of 300 KiB", "letter", "letter: meta", "256 KiB", args=LETTER, meta={"request_id": "x" * 307_200}),
    wrong(23, "5,001 digits", "anything", "cannot be read back", args=(10**5000,)),
    wrong(24, "1e400", "letter", "weight: cannot be read back", "JSON has no NaN", to=SECRET, weight=float("1e400")),
    wrong(26, "secret in a model", "login", "password: a secret is not stored in clear text", args=(login_of(SECRET),)),
    wrong(26, "secret in a field", "login", "password: a secret is not stored in clear text", password=SECRET),
    wrong(26, "model overwritten with a wrong value", "letter", "copies: cannot be read back", args=(mutated(),)),
]


@pytest.fixture
def driver() -> CountingDriver:
    return CountingDriver()


@pytest.fixture
def jobs(driver: CountingDriver) -> AppJobs:
    ran.clear()
    return AppJobs(context=None, driver=driver)


@pytest.mark.parametrize("verb", ["run", "enqueue", "delay"])
@table(*EVERYWHERE)
async def test_an_invalid_payload_is_refused_at_the_call(
    row: Refused, verb: str, jobs: AppJobs, driver: CountingDriver
) -> None:
    await refuse_call(row, (jobs, verb))
    assert driver.writes == 0
    assert not ran


@pytest.mark.parametrize("verb", ["enqueue", "delay"])
@table(*ON_THE_WIRE)
async def test_a_payload_that_does_not_survive_json_is_refused_at_the_call(
    row: Refused, verb: str, jobs: AppJobs, driver: CountingDriver
) -> None:
    await refuse_call(row, (jobs, verb))
    assert driver.writes == 0


async def test_run_accepts_a_payload_that_does_not_survive_json(jobs: AppJobs) -> None:
    await jobs.anything.run({1: b"bytes"})
    assert ran == [{1: b"bytes"}]


async def test_one_invalid_input_among_many_stores_none(jobs: AppJobs, driver: CountingDriver) -> None:
    inputs: list[Any] = [1, 2, SECRET, 4]
    with pytest.raises(ValidationError) as caught:
        await jobs.number.enqueue_many(inputs)
    assert_error(caught.value, ValidationError, "number: input", "got str")
    assert driver.writes == 0


async def test_the_issues_of_an_error_name_each_path_and_no_value(jobs: AppJobs) -> None:
    point: Any = jobs.point
    with pytest.raises(ValidationError) as caught:
        await point.run({"x": SECRET}, [SECRET])
    assert [issue.path for issue in caught.value.issues] == ["x", "y"]
    assert [issue.problem.rsplit(", ", 1)[1] for issue in caught.value.issues] == ["got dict", "got list"]
    assert SECRET not in repr(caught.value.issues)


async def test_a_dict_may_have_unknown_fields_but_a_call_may_not(jobs: AppJobs) -> None:
    """Case 15: a dict is data, from which the model takes its fields. An unknown keyword is a typing error."""
    letter: Any = jobs.letter
    await letter.run({"to": "a", "more": 1})
    assert ran == [Letter(to="a")]
    with pytest.raises(ValidationError, match="unknown field; the fields are body"):
        await letter.run(to="a", more=1)


async def test_a_payload_at_the_limit_is_accepted(jobs: AppJobs, driver: CountingDriver) -> None:
    """Cases 21 to 24: 64 levels, 256 KiB, integers of any usual length, and minus zero."""
    for value in (nested(DEPTH), "x" * (SIZE - 2), 2**64, -(10**300), -0.0):
        await jobs.anything.enqueue(value)
    assert driver.calls["enqueue"] == 5
    assert math.copysign(1, float(driver.enqueued[-1].input)) == -1
