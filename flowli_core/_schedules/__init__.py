"""Schedules: when they fire, and how they are stored.

`rules` has the rules that a user writes, `cron` the reading of cron expressions, `zones` time zones, and `timing` a
rule between its start and its end. These are pure, and need no store. `spec` decides, also purely, what is stored of
a schedule, and `changes` stores it.
"""

from flowli_core._schedules.rules import Cron, Every, Rule, make_rule
from flowli_core._schedules.timing import AllMissed, Missed, Overlap, Timing, check_missed, check_overlap, due_ticks

__all__ = [
    "AllMissed",
    "Cron",
    "Every",
    "Missed",
    "Overlap",
    "Rule",
    "Timing",
    "check_missed",
    "check_overlap",
    "due_ticks",
    "make_rule",
]
