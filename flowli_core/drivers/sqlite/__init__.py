"""Records in one SQLite file: for one machine, shared by as many processes on it as there are.

`_driver` is the page to read first; `sql/` holds the tables and every statement, `_step` and what it names the
transitions, `_watcher` how one process notices what another does.
"""

from flowli_core.drivers.sqlite._driver import SqliteDriver

__all__ = ["SqliteDriver"]
