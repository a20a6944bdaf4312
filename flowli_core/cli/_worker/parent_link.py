"""The connection between a worker process and the parent that started it."""

import contextlib
import os
import re
import signal
from dataclasses import dataclass
from typing import Self

from flowli_core.cli._common.exits import WrongUsageError

LINK_VARIABLE = "FLOWLI_WORKER_READY"
"""Holds the number of a worker, and the file descriptors of the pipes to and from its parent."""

UP = b"u"
STOPPING = b"s"
"""The reports: the worker has started; the worker has received a stop signal."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

EXIT_AT = 3
"""The number of the stop signal at which a worker exits immediately."""


_DESCRIPTOR = "([3-9]|[1-9][0-9]{1,6})"
_WRITTEN = re.compile(f"([0-9]{{1,6}}):{_DESCRIPTOR}:{_DESCRIPTOR}")
"""The number and the descriptors, which are none of the standard streams: the children of handlers inherit those."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentLink:
    """The two pipes of a worker: it reports on one, and the other ends with its parent."""

    number: int
    reports: int
    lifetime: int

    @classmethod
    def take_from_environment(cls) -> Self | None:
        """Read the variable and remove it, so that no process of a handler inherits it. None without a parent.

        Raises WrongUsageError if a parent did not set the variable.
        """
        value = os.environ.pop(LINK_VARIABLE, None)
        if value is None:
            return None
        found = _WRITTEN.fullmatch(value)
        try:
            if found is not None:
                number, reports, lifetime = map(int, found.groups())
                for descriptor in (reports, lifetime):
                    os.set_inheritable(descriptor, False)  # noqa: FBT003 - its name says it
                return cls(number=number, reports=reports, lifetime=lifetime)
        except OSError:  # the descriptor is not open
            pass
        raise WrongUsageError(f"{LINK_VARIABLE} is set by `flowli worker` for its own processes only; unset it")

    @staticmethod
    def write(number: int, *, reports: int, lifetime: int) -> dict[str, str]:
        """Return the variable for a worker that inherits these descriptors."""
        return {LINK_VARIABLE: f"{number}:{reports}:{lifetime}"}

    def report(self, word: bytes) -> None:
        """Send a report; do nothing if the parent is gone."""
        with contextlib.suppress(OSError):
            os.write(self.reports, word)
