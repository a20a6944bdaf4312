"""Retries: the policies as pure functions, and a worker that follows them."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowli_core import (
    Abort,
    DefinitionError,
    Exponential,
    Fixed,
    JobRecord,
    Jobs,
    Retry,
    RetryAfter,
    current_job,
    exponential,
    fixed,
    job,
)
from flowli_core._wire.attempts import describe_error
from flowli_core.drivers.memory import MemoryDriver
from flowli_core.durations import LONGEST
from flowli_core.retry import Backoff, next_delay
from flowli_core.testing import ManualClock, drain

SECOND = timedelta(seconds=1)


def least() -> float:
    return 0.0


def most() -> float:
    return 0.999_999


def delays(backoff: Backoff, count: int) -> list[timedelta]:
    """Return the first delays of a backoff."""
    return [backoff.after(failures, least) for failures in range(1, count + 1)]


def test_a_fixed_backoff_waits_equally_long() -> None:
    assert delays(fixed("2s"), 3) == [2 * SECOND] * 3


def test_an_exponential_backoff_doubles_up_to_its_longest_delay() -> None:
    backoff = exponential("2s", max_delay="10s")
    assert delays(backoff, 5) == [2 * SECOND, 4 * SECOND, 8 * SECOND, 10 * SECOND, 10 * SECOND]


def test_the_factor_sets_how_fast_it_grows() -> None:
    assert delays(exponential("1s", factor=1.5), 3) == [SECOND, 1.5 * SECOND, 2.25 * SECOND]
    assert delays(exponential("1s", factor=1), 3) == [SECOND] * 3


@pytest.mark.parametrize("attempt", [1_000, 1_000_000])
@pytest.mark.parametrize("factor", [2, 2.0, 3, 1e300])
def test_a_thousandth_attempt_is_still_capped(attempt: int, factor: float) -> None:
    """Case 34."""
    assert exponential("1s", max_delay="1h", factor=factor).after(attempt, least) == timedelta(hours=1)
    assert exponential("1s", factor=factor).after(attempt, least) == LONGEST


@pytest.mark.parametrize(
    ("jitter", "low", "high"), [(True, 5, 10), ((0.1, 0.2), 1, 2), ((1, 1), 10, 10), ((0, 1), 0, 10), (False, 10, 10)]
)
def test_jitter_spreads_a_delay_between_its_ratios(jitter: Any, low: float, high: float) -> None:
    for backoff in (fixed("10s", jitter=jitter), exponential("10s", jitter=jitter)):
        assert backoff.after(1, least) == low * SECOND
        assert (high - 0.001) * SECOND <= backoff.after(1, most) <= high * SECOND


@given(
    st.floats(0, 1, exclude_max=True),
    st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted).map(tuple),
    st.integers(1, 10_000),
)
def test_no_delay_is_negative_or_over_max_delay(random: float, jitter: tuple[float, float], failures: int) -> None:
    for backoff in (fixed("10m", jitter=jitter), exponential("1s", max_delay="1h", jitter=jitter)):
        assert timedelta(0) <= backoff.after(failures, lambda: random) <= timedelta(hours=1)


def decide(error: BaseException, *, attempt: int = 1, of: int = 3, **rules: Any) -> timedelta | None:
    """Return the delay of the next attempt after an error."""
    return next_delay(
        error,
        attempt=attempt,
        failures=attempt,
        rules=Retry(**rules),
        max_attempts=of,
        backoff=exponential("1s"),
        random=least,
    )


def test_an_error_is_retried_until_no_attempts_are_left() -> None:
    assert [decide(OSError(), attempt=attempt) for attempt in (1, 2, 3)] == [SECOND, 2 * SECOND, None]
    assert decide(OSError(), of=1) is None


def test_with_retry_on_only_its_errors_are_retried() -> None:
    assert decide(ConnectionError(), retry_on=(OSError,)) == SECOND
    assert decide(ValueError(), retry_on=(OSError,)) is None
    assert decide(OSError(), retry_on=()) is None


def test_the_errors_of_give_up_on_are_not_retried() -> None:
    assert decide(ConnectionError(), give_up_on=(ConnectionError,)) is None
    assert decide(OSError(), give_up_on=(ConnectionError,)) == SECOND
    assert decide(ConnectionError(), retry_on=(OSError,), give_up_on=(ConnectionError,)) is None


def test_abort_is_never_retried() -> None:
    assert decide(Abort("never"), retry_on=(Abort,)) is None


def test_retry_after_is_obeyed_whatever_the_policy_is() -> None:
    assert decide(RetryAfter("30s")) == 30 * SECOND
    assert decide(RetryAfter(timedelta(0)), attempt=99, give_up_on=(RetryAfter,)) == timedelta(0)
    assert str(RetryAfter("30s")) == "the handler asked for a retry after 30s"
    assert str(RetryAfter("30s", "the quota is used up")) == "the quota is used up"


def test_the_delay_of_retry_after_must_be_a_duration() -> None:
    with pytest.raises(DefinitionError, match="delay is not a duration"):
        RetryAfter("soon")


def test_policies_are_values() -> None:
    assert fixed("2s") == Fixed(delay=2 * SECOND)
    assert exponential("1s", max_delay="5m", jitter=True) == Exponential(
        first=SECOND, max_delay=timedelta(minutes=5), factor=2.0, jitter=(0.5, 1.0)
    )
    assert len({Retry(), Retry(), Retry(max_attempts=2)}) == 2
    assert Retry().max_attempts == 1
    assert Retry().backoff == exponential("1s", max_delay="10m", jitter=True)


# In a worker


class Outage(ConnectionError):
    pass


class Script:
    """The steps of a job: each attempt raises an error, or returns a text."""

    def __init__(self, *steps: BaseException | str) -> None:
        self.steps = list(steps)
        self.attempts: list[tuple[int, str]] = []


@job(retry=Retry(max_attempts=4, backoff=exponential("10s"), retry_on=(OSError,), give_up_on=(Outage,)))
async def follow(ctx: Script) -> str:
    running = current_job()
    ctx.attempts.append((running.attempt, running.id))
    step = ctx.steps.pop(0)
    if isinstance(step, BaseException):
        raise step
    return step


class AppJobs(Jobs[Script]):
    follow = follow


class Scenario:
    """A job that follows a script, and a clock that goes from one attempt to the next."""

    def __init__(self, *steps: BaseException | str) -> None:
        self.clock = ManualClock()
        self.script = Script(*steps)
        self.jobs = AppJobs(context=self.script, driver=MemoryDriver(clock=self.clock))
        self.begin = self.clock.now()

    async def run(self, **options: Any) -> JobRecord:
        """Enqueue the job, run each attempt when it is due, and return the final record."""
        receipt = await self.jobs.follow.options(**options).enqueue()
        while True:
            await drain(self.jobs)
            found = await self.jobs.inspect.get_job(receipt.id)
            assert found is not None
            if found.next_retry_at is None:
                return found
            self.clock.advance(found.next_retry_at - self.clock.now() - timedelta(milliseconds=1))
            made = len(self.script.attempts)
            await drain(self.jobs)
            assert len(self.script.attempts) == made
            self.clock.advance("1ms")


async def test_attempts_are_made_when_due_and_counted() -> None:
    scenario = Scenario(ConnectionError("one"), TimeoutError("two"), "done")
    record = await scenario.run()
    assert [attempt for attempt, _ in scenario.script.attempts] == [1, 2, 3]
    assert len({record_id for _, record_id in scenario.script.attempts}) == 1
    assert scenario.clock.now() - scenario.begin == 30 * SECOND
    assert (record.state, record.attempts_made, record.failure_count) == ("completed", 3, 2)
    assert record.last_failed_at == scenario.begin + 10 * SECOND
    assert record.last_error is not None
    assert (record.last_error.type, record.last_error.message) == ("TimeoutError", "two")


async def test_the_job_fails_with_its_last_attempt() -> None:
    scenario = Scenario(*[ConnectionError(str(number)) for number in range(4)])
    record = await scenario.run()
    assert scenario.clock.now() - scenario.begin == 70 * SECOND
    assert (record.state, record.attempts_made, record.failure_count) == ("failed", 4, 4)
    assert record.finished_at == record.last_failed_at == scenario.clock.now()


@pytest.mark.parametrize("error", [ValueError("not of retry_on"), Outage("of give_up_on"), Abort("for good")])
async def test_errors_that_are_not_retried_fail_the_job_at_once(error: Exception) -> None:
    record = await Scenario(error).run()
    assert (record.state, record.attempts_made) == ("failed", 1)
    assert record.last_error is not None
    assert record.last_error.message == str(error)


async def test_a_handler_may_ask_for_a_retry_even_in_the_last_attempt() -> None:
    scenario = Scenario(RetryAfter("1h"), RetryAfter("0s"), "done")
    record = await scenario.run(retry=Retry(max_attempts=1))
    assert scenario.clock.now() - scenario.begin == timedelta(hours=1)
    assert (record.state, record.attempts_made, record.failure_count) == ("completed", 3, 2)


async def test_the_retry_of_a_call_replaces_attempts_and_backoff_but_not_retry_on() -> None:
    scenario = Scenario(ConnectionError(), ValueError())
    record = await scenario.run(retry=Retry(max_attempts=9, backoff=fixed("1m")))
    assert scenario.clock.now() - scenario.begin == timedelta(minutes=1)
    assert (record.state, record.max_attempts, record.backoff) == ("failed", 9, fixed("1m"))


async def test_the_default_is_one_attempt() -> None:
    tried: list[int] = []

    @job()
    async def fails() -> None:
        tried.append(1)
        raise ConnectionError

    class Failing(Jobs[None]):
        fail = fails

    jobs = Failing(context=None, driver=MemoryDriver())
    await jobs.fail.enqueue()
    assert (await drain(jobs)).failed == 1
    assert tried == [1]


class Unprintable(ConnectionError):
    def __str__(self) -> str:
        raise RuntimeError("no words")


async def test_the_last_error_has_its_class_message_and_traceback() -> None:
    record = await Scenario(Outage("gone"), "never").run()
    assert record.last_error is not None
    assert record.last_error.type == f"{__name__}.Outage"
    assert "in follow\n    raise step\n" in record.last_error.traceback
    assert record.last_error.traceback.endswith("Outage: gone\n")


def no_causes(_: BaseException) -> BaseException | None:
    raise RuntimeError("no causes")


def test_an_error_whose_traceback_cannot_be_read_is_described_without_it() -> None:
    """Tested without a worker, because the log handler of pytest fails on such an error; the usual one does not."""
    error = type("Untraceable", (Exception,), {"__cause__": property(no_causes)})("odd")
    described = describe_error(error)
    assert (described.message, described.traceback) == ("odd", "<its traceback cannot be read: RuntimeError>")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (Unprintable(), "<its message cannot be read: RuntimeError>"),
        (ValueError("\ud800"), "\\ud800"),
        (ValueError("x" * 100_000), "x" * 2_000),
    ],
)
async def test_any_message_of_an_error_can_be_stored(error: Exception, message: str) -> None:
    record = await Scenario(error).run(retry=Retry())
    assert record.last_error is not None
    assert record.last_error.message == message
    assert len(record.last_error.traceback) <= 16_000
