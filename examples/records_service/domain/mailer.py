"""A mailer that fails as real ones do: servers are busy, and addresses do not exist."""

from __future__ import annotations

import asyncio
from typing import Protocol

_ROUND_TRIP = 0.005


class ServerBusyError(Exception):
    """The mail server is busy. Sending again later may succeed."""


class NoSuchMailboxError(Exception):
    """The mailbox does not exist. Sending again does not help."""


class Mailer(Protocol):
    """A mailer. The sender chooses `message_id`; a message that is sent twice is delivered once."""

    async def send(self, *, message_id: str, to: str, subject: str, text: str) -> None:
        """Send a message. Raises ServerBusyError and NoSuchMailboxError."""
        ...


class PretendedMailer:
    """A mailer for demonstrations: it sends nothing, and fails in a predictable way.

    Addresses at example.org are greylisted: the first attempt is refused and the next one accepted, as real servers do
    with unknown senders. No mailbox exists at example.net.
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
