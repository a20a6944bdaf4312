"""The decision what a run does next: one pure function over facts of its parts."""

from typing import Literal, NamedTuple

Action = Literal["finish answer", "recall", "resend", "step", "stop listening", "finish", "listen", "sleep"]
"""The next thing that a run does.

finish answer: act on the answer that was put off. recall: send the unanswered waiting step again, without waiting.
resend: send the unanswered step again. step: send a new step. stop listening: cancel the waiting step in flight.
finish: end the run. listen: send a waiting step. sleep: wait until a fact changes.
"""


class Facts(NamedTuple):
    """The state of a run between two actions.

    is_stopping: a stop was requested.
    free_slots: how many records the run may reserve; 0 while it is stopping.
    holds_leases: some reserved records are not settled, or the store has not confirmed their outcome.
    has_put_off: the answer of the last step was put off until the next step is on its way.
    has_acks: there are outcomes to send to the store.
    has_unanswered_step: a step was interrupted. It may have reserved records, and its acks may be lost.
    has_unanswered_wait: a waiting step is in flight, or was interrupted. It may have reserved records.
    is_listening: a waiting step is in flight.
    must_step: the store must be asked now, even if no slot is free.
    has_work: a step may reserve something.
    may_take_suspect: the run is idle, and a suspect is the next due record. It must run alone.
    may_listen: the run waits for new work. A run that goes through the due jobs once does not.
    is_drained: the run goes through the due jobs once, and none is left.
    """

    is_stopping: bool
    free_slots: int
    holds_leases: bool
    has_put_off: bool
    has_acks: bool
    has_unanswered_step: bool
    has_unanswered_wait: bool
    is_listening: bool
    must_step: bool
    has_work: bool
    may_take_suspect: bool
    may_listen: bool
    is_drained: bool


def next_action(facts: Facts) -> Action:
    """Return the next action of a run. Only a step may come before the answer that was put off."""
    action = _next_call(facts)
    return "finish answer" if facts.has_put_off and action != "step" else action


def _next_call(facts: Facts) -> Action:  # noqa: PLR0911 - a return for each situation
    """Return the next action, as if no answer was put off. The first condition that holds decides."""
    if facts.has_unanswered_wait and not facts.is_listening:
        return "recall"  # The waiting step failed or was cancelled: get the records that it may have reserved.
    if facts.has_unanswered_step:
        return "resend"  # The run was cancelled, or out of time, while a step was in flight.
    if facts.has_acks or facts.must_step:
        return "step"  # There are outcomes to send, or the pacer asks for a step.
    if facts.may_take_suspect:
        return "stop listening" if facts.is_listening else "step"  # The waiting step may reserve other records.
    if facts.free_slots and facts.has_work:
        return "step"  # Fill the free slots.
    if facts.is_stopping and facts.is_listening:
        return "stop listening"  # No new work is wanted. What the wait may have reserved is recalled next.
    if (facts.is_stopping or facts.is_drained) and not facts.holds_leases:
        return "finish"  # Everything that was reserved is settled, and the store knows it.
    if facts.free_slots and facts.may_listen and not facts.is_listening:
        return "listen"  # There is nothing to do: wait for the store's wake-ups.
    return "sleep"  # Handlers are running, or a waiting step is in flight.
