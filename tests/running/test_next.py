"""The decision what a run does next: each situation has its action."""

import itertools

import pytest

from flowli_core._running.next import Action, Facts, next_action


def changed(facts: Facts, **changes: bool) -> Facts:
    """Return other facts, with some changes."""
    return facts._replace(**changes)


IDLE = Facts(
    is_stopping=False,
    free_slots=10,
    holds_leases=False,
    has_put_off=False,
    has_acks=False,
    has_unanswered_step=False,
    has_unanswered_wait=False,
    is_listening=False,
    must_step=False,
    has_work=False,
    may_take_suspect=False,
    may_listen=True,
    is_drained=False,
)
LISTENING = changed(IDLE, has_unanswered_wait=True, is_listening=True)
WAIT_FAILED = changed(IDLE, has_unanswered_wait=True)
FULL = changed(IDLE._replace(free_slots=0), holds_leases=True)
STOPPING = changed(IDLE._replace(free_slots=0), is_stopping=True)
STOPPING_LISTENING = changed(STOPPING, has_unanswered_wait=True, is_listening=True)
STOPPING_WAIT_FAILED = changed(STOPPING, has_unanswered_wait=True)
ONCE = changed(IDLE, may_listen=False)

TABLE = {
    "an idle run listens": (IDLE, "listen"),
    "a listening run sleeps": (LISTENING, "sleep"),
    "free slots are filled": (changed(IDLE, has_work=True), "step"),
    "free slots are filled while the run listens": (changed(LISTENING, has_work=True), "step"),
    "free slots are filled while handlers run": (changed(IDLE, has_work=True, holds_leases=True), "step"),
    "a step is sent before the last answer is acted on": (
        changed(IDLE, has_work=True, has_put_off=True, holds_leases=True),
        "step",
    ),
    "the last answer comes before anything but a step": (
        changed(FULL, has_put_off=True),
        "finish answer",
    ),
    "the last answer comes before the end": (changed(STOPPING, has_put_off=True), "finish answer"),
    "full slots are not filled": (changed(FULL, has_work=True), "sleep"),
    "a run with full slots does not listen": (FULL, "sleep"),
    "a run with full slots steps if it must": (changed(FULL, must_step=True), "step"),
    "a suspect is taken": (changed(IDLE, may_take_suspect=True), "step"),
    "a suspect is taken by a run that goes through the due jobs once": (changed(ONCE, may_take_suspect=True), "step"),
    "a run that listens cancels its wait before it takes a suspect": (
        changed(LISTENING, may_take_suspect=True),
        "stop listening",
    ),
    "what the wait has reserved comes before a suspect": (changed(WAIT_FAILED, may_take_suspect=True), "recall"),
    "outcomes are sent at once": (changed(LISTENING, has_acks=True), "step"),
    "outcomes are sent by a run with full slots": (changed(FULL, has_acks=True), "step"),
    "an unanswered step is sent again": (changed(FULL, has_unanswered_step=True), "resend"),
    "an unanswered step comes before a new one": (
        changed(IDLE, has_unanswered_step=True, has_acks=True),
        "resend",
    ),
    "a failed wait is recalled": (WAIT_FAILED, "recall"),
    "a failed wait is recalled before a step": (changed(WAIT_FAILED, must_step=True), "recall"),
    "a failed wait is recalled during a stop": (STOPPING_WAIT_FAILED, "recall"),
    "a stopping run cancels its wait": (STOPPING_LISTENING, "stop listening"),
    "a stopping run cancels its wait while handlers run": (
        changed(STOPPING_LISTENING, holds_leases=True),
        "stop listening",
    ),
    "a stopping run sends outcomes before it cancels its wait": (
        changed(STOPPING_LISTENING, has_acks=True),
        "step",
    ),
    "a stopping run does not reserve": (changed(STOPPING, has_work=True, holds_leases=True), "sleep"),
    "a stopping run waits for its handlers": (changed(STOPPING, holds_leases=True), "sleep"),
    "a stopping run that holds nothing is finished": (STOPPING, "finish"),
    "a run that goes once does not listen": (ONCE, "sleep"),
    "a run that goes once fills its slots": (changed(ONCE, has_work=True), "step"),
    "a run that goes once is finished when it is drained": (changed(ONCE, is_drained=True), "finish"),
    "a run that goes once steps before it is finished": (
        changed(ONCE, is_drained=True, must_step=True),
        "step",
    ),
}


@pytest.mark.parametrize(("facts", "action"), TABLE.values(), ids=TABLE)
def test_each_situation_has_its_action(facts: Facts, action: Action) -> None:
    assert next_action(facts) == action


def states_with(action: Action) -> list[Facts]:
    """Return every possible state in which this is the next action."""
    names = [name for name in Facts._fields if name != "free_slots"]
    states = [
        Facts(free_slots=free_slots, **dict(zip(names, flags, strict=True)))
        for flags in itertools.product((False, True), repeat=len(names))
        for free_slots in (0, 3)
    ]
    return [facts for facts in states if not (facts.is_stopping and facts.free_slots) and next_action(facts) == action]


def test_a_run_is_finished_only_if_it_owes_the_store_nothing() -> None:
    for facts in states_with("finish"):
        assert facts.is_stopping or facts.is_drained
        assert not any((facts.holds_leases, facts.has_acks, facts.has_unanswered_step))
        assert facts.is_listening or not facts.has_unanswered_wait


def test_a_run_sleeps_only_if_something_wakes_it() -> None:
    """Something wakes it if a handler or a waiting step ends, or when the timer of the pacer ends."""
    for facts in states_with("sleep"):
        assert not any((facts.has_acks, facts.must_step, facts.has_unanswered_step))
        assert facts.holds_leases or facts.is_listening or not facts.free_slots or not facts.may_listen


def test_a_run_has_one_waiting_step_in_flight_and_sends_none_while_it_stops() -> None:
    for facts in states_with("listen"):
        assert not any((facts.is_listening, facts.is_stopping, facts.has_unanswered_wait))


def test_the_last_answer_waits_only_for_a_step() -> None:
    for action in ("recall", "resend", "stop listening", "finish", "listen", "sleep"):
        assert not any(facts.has_put_off for facts in states_with(action))
