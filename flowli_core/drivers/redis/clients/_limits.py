"""What the clients that the driver makes are given, whatever their library."""

from __future__ import annotations

PATIENCE = 5.0
"""Seconds after which a connection is given up that is not there; a command has as long unless the driver is told."""

RETRIES = 3
"""How often a command is sent again where its connection breaks."""

LEAST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
"""Seconds before it is."""

MOST_CONNECTIONS = 1024
"""A wait holds one, and most libraries take one for each call under way. Calls beyond it are refused or held up."""
