"""The exit codes of every command.

0    done; a worker: stopped as asked, and what ran was finished or given back
1    it failed: the store refused or failed, no such record, not healthy, a job raised
2    wrong usage: an option, a target, a name or an input that cannot be
70   a worker whose event loop is dead for good: it left so that it can be started again
130  interrupted (Ctrl-C)
143  a worker that was told twice to leave: what still ran was cancelled and given back
"""

from __future__ import annotations

DONE = 0
FAILED = 1
USAGE = 2
STALLED = 70
INTERRUPTED = 130
TERMINATED = 143
