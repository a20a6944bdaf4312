"""Limits of the clients that the driver makes, the same for all libraries."""

from __future__ import annotations

from contextvars import ContextVar

PATIENCE = 5.0
"""Seconds until an attempt to connect fails; also the time limit of a command unless the driver has another."""

RETRIES = 3
"""The number of times that a command is sent again if its connection breaks."""

LEAST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
"""Seconds between two retries: they grow from the first to the second."""

MOST_CONNECTIONS = 1024
"""Connections per client. A wait holds one, and most libraries use one for each call that is in flight."""

extra_patience: ContextVar[float] = ContextVar("extra_patience", default=0.0)
"""Seconds that a command may take beyond the time limit of its client: see _patience.py."""
