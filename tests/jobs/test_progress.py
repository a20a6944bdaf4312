"""`current_job().progress` and `current_job().log`: accepted and refused arguments, and `run`."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowli_core import CurrentJob, Jobs, LogLine, Progress, ValidationError, current_job, job
from flowli_core._progress import log_lines
from flowli_core._wire.reports import pack_line, pack_progress, unpack_log, unpack_progress
from flowli_core.durations import ZERO


@job(int)
async def count(input: int) -> Progress | None:
    current_job().progress(input, 10, "counting")
    current_job().log("counting")
    return current_job().last_progress


@job(int)
def look(input: int) -> Progress | None:
    return current_job().last_progress


class AppJobs(Jobs[None]):
    count = count
    look = look


async def test_run_accepts_reports_and_the_handler_sees_its_last_progress() -> None:
    jobs = AppJobs(context=None)
    found = await jobs.count.run(3)
    assert found is not None
    assert (found.done, found.total, found.note, found.fraction) == (3, 10, "counting", 0.3)
    assert await jobs.look.run(1) is None
    with pytest.raises(ValidationError):
        await jobs.count.run(11)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((True,), "progress: done must be an int or a float, got True"),
        (("3",), "progress: done must be an int or a float, got '3'"),
        ((None,), "progress: done must be an int or a float, got None"),
        ((Decimal(3),), "progress: done must be an int or a float, got Decimal('3')"),
        ((float("nan"),), "progress: done must be from 0 to 2**53, got nan"),
        ((float("inf"),), "progress: done must be from 0 to 2**53, got inf"),
        ((-1,), "progress: done must be from 0 to 2**53, got -1"),
        ((10**400,), "progress: done must be from 0 to 2**53, got 1000"),
        ((10**5000,), "progress: done must be from 0 to 2**53, got a value of int that cannot be shown"),
        ((1, False), "progress: total must be an int or a float, got False"),
        ((1, float("nan")), "progress: total must be from 0 to 2**53, got nan"),
        ((0, -1), "progress: total must be from 0 to 2**53, got -1"),
        ((11, 10), "progress: done must be at most total, got 11 of 10"),
        ((1, 0), "progress: done must be at most total, got 1 of 0"),
        ((1, 2, b"x"), "progress: note must be a str, got bytes"),
        ((1, 2, "é" * 513), "progress: note must have at most 1,024 bytes in UTF-8, got 1,026"),
    ],
)
def test_bad_progress_is_refused_at_once(arguments: tuple[Any, ...], message: str) -> None:
    """The fault is in the program, so a server answers 500 and not 422."""
    current = CurrentJob(id="run", name="count", queue="default")
    with pytest.raises(ValidationError) as caught:
        current.progress(*arguments)
    assert str(caught.value).startswith(message)
    assert caught.value.is_internal
    assert current.last_progress is None


@pytest.mark.parametrize(("done", "total", "fraction"), [(0, 0, 1.0), (0, 3, 0.0), (1.5, 3, 0.5), (5, None, None)])
def test_progress_knows_its_fraction(done: float, total: float | None, fraction: float | None) -> None:
    current = CurrentJob(id="run", name="count", queue="default")
    current.progress(done, total)
    assert current.last_progress is not None
    assert current.last_progress.fraction == fraction


def test_a_text_of_several_lines_is_several_log_lines() -> None:
    assert [line.text for line in log_lines("one\r\ntwo\n\nfour\n")] == ["one", "two", "", "four"]
    assert [line.text for line in log_lines("")] == [""]


@pytest.mark.parametrize("text", [b"x", None, 3])
def test_a_log_takes_only_text(text: Any) -> None:
    with pytest.raises(ValidationError, match="log: text must be a str, got"):
        CurrentJob(id="run", name="count", queue="default").log(text)


def test_a_long_line_is_cut_to_whole_characters() -> None:
    (line,) = log_lines("x" + "é" * 600)
    assert line.text == "x" + "é" * 511
    assert len(line.text.encode()) == 1023
    (odd,) = log_lines("\ud800 a lone surrogate")
    assert odd.text == "\\ud800 a lone surrogate"


TIME = datetime(2026, 11, 30, 12, 0, 0, 123_000, tzinfo=UTC)


def test_reports_are_stored_as_this_json() -> None:
    progress = Progress(done=3, total=10.5, note="é\n", at=TIME)
    assert json.loads(pack_progress(progress, ZERO)) == {
        "done": 3,
        "total": 10.5,
        "note": "é\n",
        "at": "2026-11-30T12:00:00.123+00:00",
    }
    assert pack_progress(Progress(done=3, at=TIME), timedelta(seconds=1)) == (
        b'{"done":3,"at":"2026-11-30T12:00:01.123+00:00"}'
    )
    assert pack_line(LogLine(TIME, "a\tb"), ZERO) == b'["2026-11-30T12:00:00.123+00:00","a\\tb"]'


numbers = st.integers(0, 2**53) | st.floats(0, 2**53)


@given(done=numbers, total=st.none() | numbers, note=st.none() | st.text(max_size=200), text=st.text(max_size=300))
def test_reports_are_read_as_they_were_written(done: float, total: float | None, note: str | None, text: str) -> None:
    done = done if total is None else min(done, total)
    progress = Progress(done=done, total=total, note=note, at=TIME)
    assert unpack_progress(pack_progress(progress, ZERO)) == progress
    lines = [LogLine(TIME, line.text) for line in log_lines(text)]
    wire = [pack_line(line, ZERO) for line in lines]
    assert not any(b"\n" in line for line in wire)
    assert list(unpack_log(wire)) == lines


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"3",
        b'{"done":3}',
        b'{"at":"2026-11-30T12:00:00Z"}',
        b'{"done":"3","at":"2026-11-30T12:00:00Z"}',
        b'{"done":NaN,"at":"2026-11-30T12:00:00Z"}',
        b'{"done":3,"total":2,"at":"2026-11-30T12:00:00Z"}',
        b'{"done":3,"at":"soon"}',
        b'{"done":3,"at":5}',
        b'{"done":3,"at":"0001-01-01T00:00:00+23:59"}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_damaged_reports_are_left_out(wire: bytes) -> None:
    assert unpack_progress(wire) is None
    good = pack_line(LogLine(TIME, "good"), ZERO)
    assert unpack_log([wire, good, b'["2026-11-30T12:00:00Z",5]', b'["soon","x"]', b'["x"]']) == (
        LogLine(TIME, "good"),
    )
