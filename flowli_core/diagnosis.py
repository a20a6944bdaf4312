"""What `flowli doctor` asks of a driver. No part of the contract: a driver that has `diagnose` is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

Verdict = Literal["ok", "warning", "bad"]
"""ok: as it should be. warning: jobs may be lost or late in some event. bad: they are, or will be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something that was looked at: what was seen, what that means, and what to do about it."""

    name: str
    value: str
    verdict: Verdict = "ok"
    cure: str = ""


@runtime_checkable
class Diagnosable(Protocol):
    """A driver that can tell how its store is."""

    async def diagnose(self) -> list[Check]:
        """Look at everything that can be looked at, while workers go on. Called once it is open."""
        ...
