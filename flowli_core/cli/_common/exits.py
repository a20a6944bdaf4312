"""The exit codes of the commands.

0    success; a worker: it stopped when asked, and its running jobs finished or returned to the queue
1    failure: the store refused or failed, a job or schedule was not found, a check failed, a job raised an error
2    wrong usage: an invalid option, target, name or input; `flowli jobs watch`: the job was not found
70   a worker whose event loop stayed blocked, or whose slots were all held by handlers that never end: restart it
124  `flowli enqueue --wait`: the job did not finish within --timeout
130  interrupted by Ctrl-C
143  a worker that a second stop signal reached: its running jobs were cancelled and returned to the queue

A worker that a third stop signal reaches exits at once with 128 + its number: 130 for Ctrl-C, 143 for SIGTERM.
"""

import click

DONE = 0
FAILED = 1
USAGE = 2
STALLED = 70
TIMED_OUT = 124
INTERRUPTED = 130
TERMINATED = 143


class WrongUsageError(click.ClickException):
    """A target, name, id, key or input is invalid: wrong usage, but of no single option."""

    exit_code = USAGE
