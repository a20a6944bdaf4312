"""The periods of a history in milliseconds: see `flowli_core/history.py`."""

from flowli_core.drivers._times import milliseconds
from flowli_core.history import HOURS_KEPT, MINUTES_KEPT, Resolution

LAST_TIME = 2**62

LENGTHS: dict[Resolution, int] = {"minute": 60_000, "hour": 3_600_000, "total": LAST_TIME}
"""The length of each period. The total is one period, which starts at 0."""

KEPT: dict[Resolution, int] = {"minute": milliseconds(MINUTES_KEPT), "hour": milliseconds(HOURS_KEPT)}
"""For how long the numbers of a period are kept. Those of the total stay."""


def start_of(resolution: Resolution, time: int) -> int:
    """Return the start of the period that a time is in."""
    return time - time % LENGTHS[resolution]
