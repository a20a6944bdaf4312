"""Mail, as a service sees it: servers that are busy, and addresses that do not exist."""

from __future__ import annotations

import asyncio
from typing import Protocol

_ROUND_TRIP = 0.005


class ServerBusyError(Exception):
    """The other server says: later. Sending again helps."""


class NoSuchMailboxError(Exception):
    """The other server says: never. Sending again is of no use."""


class Mailer(Protocol):
    """What sends mail. `message_id` is the sender's: a message that is sent twice is delivered once."""

    async def send(self, *, message_id: str, to: str, subject: str, text: str) -> None:
        """Send a message. Raises ServerBusyError and NoSuchMailboxError."""
        ...


class PretendedMailer:
    """Sends nothing, and fails as the world does, but each time in the same way.

    Addresses at example.org are greylisted, as real servers do to strangers: the first attempt is turned away, and
    the next one taken. At example.net nobody lives.
    """

    def __init__(self) -> None:
        self._turned_away: set[str] = set()
        self.sent: dict[str, str] = {}

    async def send(self, *, message_id: str, to: str, subject: str, text: str) -> None:
        """Pretend to send a message."""
        await asyncio.sleep(_ROUND_TRIP)
        domain = to.rpartition("@")[2]
        if domain == "example.net":
            raise NoSuchMailboxError(f"550 there is no mailbox at {domain}")
        if domain == "example.org" and message_id not in self._turned_away:
            self._turned_away.add(message_id)
            raise ServerBusyError("451 greylisted, try again later")
        self.sent[message_id] = f"{subject}\n\n{text}"
