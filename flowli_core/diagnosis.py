"""The findings of a driver that examines its store. Not part of what every driver must do."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A finding of `flowli doctor`: the observed value, a verdict, and the cure.

    warning: jobs may be lost or late if something else happens. bad: they are, or will be.
    """

    name: str
    value: str
    verdict: Literal["ok", "warning", "bad"] = "ok"
    cure: str = ""


@runtime_checkable
class Diagnosable(Protocol):
    """A driver that can examine its store for `flowli doctor` and the dashboard."""

    async def diagnose(self, *, quick: bool = False) -> list[Check]:
        """Examine the store while workers go on. Called once it is open.

        With `quick`, leave out what reads the records: the answer takes a few calls, and nothing is written.
        """
        ...
