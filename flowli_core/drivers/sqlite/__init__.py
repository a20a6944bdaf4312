"""Records in one SQLite file, which any number of processes on one machine may share.

Read `_driver` first. `sql/` has the tables and every statement, `_step` the stages of a step, and `_watcher` notices
what other processes write.
"""

from flowli_core.drivers.sqlite._driver import SqliteDriver

__all__ = ["SqliteDriver"]
