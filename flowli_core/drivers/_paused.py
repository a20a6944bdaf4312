"""The error of pausing too many queues."""

from flowli_core.errors import DriverError
from flowli_core.limits import MOST_PAUSED


def too_many_paused() -> DriverError:
    """Return the error for one paused queue too many."""
    return DriverError(f"{MOST_PAUSED:,} queues are paused already, which is the most; resume one of them first")
