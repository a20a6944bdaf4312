"""A thread with a connection, which does all that is submitted to it, in order."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from flowli_core.drivers.sqlite._errors import DAMAGED, translate
from flowli_core.errors import DriverError, StoreDamaged

T = TypeVar("T")


class Thread:
    """A thread with a connection of its own, which it opens for the first work.

    It may be used from any event loop. If a caller is cancelled, its work is dropped if it has not begun, and finished
    otherwise.
    """

    def __init__(self, name: str, path: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self._path = path
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._ended: Future[None] | None = None
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do the work. Raises DriverError in place of SQLite's errors, and if it is closed."""
        try:
            done = self._executor.submit(self._do, work)
        except RuntimeError:
            raise DriverError("the driver is closed; open it first") from None
        return await asyncio.wrap_future(done)  # ty: ignore[invalid-explicit-return] - it does not solve T in `submit`

    def end(self) -> None:
        """Close the connection and end the thread, once all work that was submitted before is done."""
        if self._ended is None:
            self._ended = self._executor.submit(self._disconnect)
            self._executor.shutdown(wait=False)

    async def ended(self) -> None:
        """Wait until the thread has ended."""
        if self._ended is not None:
            # Shielded, because a cancelled caller must not cancel the work.
            await asyncio.shield(asyncio.wrap_future(self._ended))
            self._executor.shutdown()  # it has nothing left to do, so this does not block

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._connect()
            return work(self._connection)
        except sqlite3.Error as error:
            # Errors of the sqlite3 module itself have no code, and their text may contain a value.
            raise translate(error, self._path) from (error if hasattr(error, "sqlite_errorcode") else None)
        except UnicodeDecodeError:
            # The sqlite3 module cannot decode a message of SQLite that quotes the damaged definition of a table.
            raise StoreDamaged(f"{self._path} {DAMAGED}") from None
        except (UnicodeEncodeError, OverflowError):
            raise DriverError(
                f"{self._path} cannot hold a text with lone surrogates, or an integer of more than 64 bits"
            ) from None

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
