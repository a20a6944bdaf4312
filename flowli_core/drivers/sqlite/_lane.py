"""One thread with one connection: what is asked of a lane is done wholly, and in order."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from flowli_core.drivers.sqlite._errors import translated
from flowli_core.errors import DriverError

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")


class Lane:
    """Does work on its own thread with its own connection, which it opens when it first needs it.

    It may be awaited from any event loop. A caller who is cancelled stops work that has not begun, and no other.
    """

    def __init__(self, name: str, path: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self._path = path
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._ended: Future[None] | None = None
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do the work. Raises DriverError in place of SQLite's errors, and where the lane is closed."""
        try:
            done = self._executor.submit(self._do, work)
        except RuntimeError:
            raise DriverError("the driver is closed; open it first") from None
        return await asyncio.wrap_future(done)  # ty: ignore[invalid-explicit-return] - it does not solve T in `submit`

    def end(self) -> None:
        """Have it finish what was asked for before, then close the connection and end the thread."""
        if self._ended is None:
            self._ended = self._executor.submit(self._disconnect)
            self._executor.shutdown(wait=False)

    async def ended(self) -> None:
        """Wait for that."""
        if self._ended is not None:
            # Shielded, because a cancelled caller must not take the work out of the queue.
            await asyncio.shield(asyncio.wrap_future(self._ended))
            self._executor.shutdown()  # it has nothing left to do, so this does not block

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._connect()
            return work(self._connection)
        except sqlite3.Error as error:
            # Errors of the module itself have no code, and may show the value that they are about.
            raise translated(error, self._path) from (error if hasattr(error, "sqlite_errorcode") else None)
        except (UnicodeEncodeError, OverflowError):
            raise DriverError(
                f"{self._path} cannot hold a text with lone surrogates, or an integer of more than 64 bits"
            ) from None

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
