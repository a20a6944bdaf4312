"""When something recurs, as pure code: rules, their time zones, and what becomes of ticks that were missed.

`rules` has what a user writes, `cron` the five fields of a cron expression, `zones` local time and what happens to
it twice a year, `timing` a rule between its start and its end. No store is needed to use any of it.
"""

from flowli_core._schedules.rules import Cron, Every, Rule, rule_from
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
    "rule_from",
]
