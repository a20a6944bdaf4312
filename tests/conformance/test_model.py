"""Random calls to a driver and to the model: both must give the same answers and hold the same records.

The calls include the effects of faults: steps sent again because the reply was lost, late copies of old calls, acks and
heartbeats with old and invented tokens, workers that die with reserved records and report later, clocks that are set
back, and stores that forget what they may forget. The search is short by default. With FLOWLI_MODEL=long each driver
runs 50 seeds of 2,000 operations, which takes long.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conformance.drivers import CANDIDATES
from tests.conformance.model_faults import FaultyMachine

if TYPE_CHECKING:
    import pytest

LONG = os.environ.get("FLOWLI_MODEL") == "long"
EXAMPLES = {"memory": 20 if LONG else 250}
OTHERS = 20 if LONG else 70
SAME_STORE = {"valkey": 10, "coredis": 10}
"""These use the driver of another candidate with another client; a short search is enough to check the client."""
STEPS = 100 if LONG else 40
SEEDS = range(int(os.environ.get("FLOWLI_MODEL_SEEDS", "50"))) if LONG else range(5)
"""By default a search ends with the first seed after which everything was reached."""

# A search that reaches nothing finds no faults, so it must have reached each of these.
MUST_REACH = (
    "ack ok",
    "ack duplicate",
    "ack lost",
    "cancel cancelled",
    "cancel changed",
    "cancel finished",
    "cancel requested",
    "cancel unknown",
    "enqueue accepted",
    "enqueue duplicate",
    "enqueue existing",
    "expired",
    "expired suspect",
    "heartbeat cancelled",
    "heartbeat lost",
    "left in a paused queue",
    "log cut",
    "log of a record that is active",
    "log of a record that is completed",
    "purged",
    "recovered cancelled",
    "recovered failed",
    "recovered queued",
    "requeue changed",
    "requeue key_taken",
    "requeue requeued",
    "requeue unfinished",
    "requeue unknown",
    "waiting step reserved",
    "waiting step recalled",
    "zombie ok",
    "zombie lost",
    "clock back",
    "recovery taken back",
    "history read",
    "enqueue replaced",
    "existing completed",
    "behind",
    "replaced behind",
    "blocked by concurrency",
    "blocked by rate",
    "reserved, recovered 0 times",
    "reserved, recovered 1 times",
    "reserved, recovered 2 times",
)


def test_a_driver_does_what_the_model_does(driver_name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever is called in whatever order, answers and records are those of the model."""
    reached: Counter[str] = Counter()

    class Machine(FaultyMachine):
        def __init__(self) -> None:
            super().__init__(CANDIDATES[driver_name], tmp_path_factory.mktemp("model"), reached)

    missed: list[str] = []
    for number in SEEDS:
        search(seed(number)(Machine), driver_name)
        missed = [what for what in MUST_REACH if not reached[what] and driver_name not in SAME_STORE]
        if not missed and not LONG:
            break
    assert not missed, f"the search never saw: {missed}"


def search(machine: type[FaultyMachine], driver_name: str) -> None:
    """Search once."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=SAME_STORE.get(driver_name) or EXAMPLES.get(driver_name, OTHERS),
            stateful_step_count=STEPS,
            deadline=None,
            phases=(Phase.generate,),  # shrinking a failure takes minutes
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
