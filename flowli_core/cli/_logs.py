"""Where the log lines of a command go: to stderr, each with the job that it belongs to."""

from __future__ import annotations

import logging

from flowli_core.logs import JobFilter, JsonFormatter, PlainFormatter


def set_up_logs(*, level: str, style: str = "plain") -> None:
    """Let everything that is logged at this level or above be written."""
    handler = logging.StreamHandler()
    handler.addFilter(JobFilter())
    handler.setFormatter(JsonFormatter() if style == "json" else PlainFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
