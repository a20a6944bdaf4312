"""Schedules: when they fire, and how they are stored.

`rules` has the rules that a user writes, `cron` the reading of cron expressions, `zones` time zones, and `timing` a
rule between its start and its end. These are pure, and need no store. `spec` decides, also purely, what is stored of
a schedule, and `changes` stores it.
"""
