"""How recurring definitions are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowli_core.cli._show import table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from flowli_core.records import ScheduleRecord


def schedule_rows(schedules: Iterable[ScheduleRecord], now: datetime) -> str:
    """A table of them."""
    del now
    return table(["schedule", "job"], [[one.key, one.name] for one in schedules])
