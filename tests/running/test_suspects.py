"""When a run makes room for a suspect, and when it goes on with other jobs."""

from __future__ import annotations

import pytest

from flowli_core._running.suspects import SuspectTurns


class Time:
    """A clock that a test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def turns(time: Time) -> SuspectTurns:
    return SuspectTurns(clock=time)


def test_without_suspects_a_run_makes_no_room(turns: SuspectTurns) -> None:
    turns.after_step(suspect_due=False)
    assert (turns.is_due, turns.makes_room(), turns.seconds_until_change()) == (False, False, None)


def test_a_run_makes_room_until_no_suspect_is_due(turns: SuspectTurns, time: Time) -> None:
    turns.after_step(suspect_due=True)
    assert turns.makes_room()
    assert turns.seconds_until_change() == 1.0
    time.now += 0.5
    turns.after_step(suspect_due=False)
    assert not turns.makes_room()


def test_a_run_whose_jobs_take_too_long_goes_on_and_waits_for_longer_the_next_time(
    turns: SuspectTurns, time: Time
) -> None:
    """Each pause is as long as the wait before it, so other jobs lose at most half of the time."""
    turns.after_step(suspect_due=True)
    for seconds in (1, 2, 4, 8):
        assert turns.makes_room()
        time.now += seconds - 0.01
        assert turns.makes_room()
        time.now += 0.01
        assert not turns.makes_room()
        assert turns.seconds_until_change() == pytest.approx(seconds)
        time.now += seconds - 0.01
        assert not turns.makes_room()
        time.now += 0.01


def test_other_jobs_get_as_much_time_as_a_suspect_took(turns: SuspectTurns, time: Time) -> None:
    """The time in which the run made room for it counts. Without other jobs there is no pause."""
    turns.after_step(suspect_due=True)
    assert turns.makes_room()
    time.now += 0.5
    turns.started()
    turns.after_step(suspect_due=True)
    assert turns.seconds_until_change() is None
    time.now += 10
    turns.ended()
    for _ in range(2):
        assert not turns.makes_room()
        assert not turns.may_take(has_other_work=True)
        assert turns.may_take(has_other_work=False)
        time.now += 10.4
    assert turns.makes_room()
    assert turns.may_take(has_other_work=True)


def test_a_suspect_that_ends_shortens_the_next_wait(turns: SuspectTurns, time: Time) -> None:
    turns.after_step(suspect_due=True)
    assert turns.makes_room()
    time.now += 1
    assert not turns.makes_room()
    turns.started()
    turns.ended()
    time.now += 100
    assert turns.makes_room()
    assert turns.seconds_until_change() == 1.0
