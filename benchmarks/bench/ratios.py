"""The figures of a run, and their ratios."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .phases import Figures
from .subjects import BARE_LOOP, BULLMQ, LOOP, OURS, POP

LESS_IS_BETTER = frozenset(
    {
        "server us",
        "worker us",
        "one server us",
        "one client us",
        "p50",
        "p99",
        "idle",
        "bytes",
        "server us above delayed",
    }
)
NOT_PEERS = frozenset({OURS, LOOP, BARE_LOOP, POP})


@dataclass
class Recorded:
    """A run: the figures of each program in each round, why programs failed, and what it ran on."""

    about: dict[str, str]
    versions: dict[str, str] = field(default_factory=dict[str, str])
    rounds: list[dict[str, Figures]] = field(default_factory=list[dict[str, Figures]])
    failures: dict[str, str] = field(default_factory=dict[str, str])
    sizes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    stores: list[dict[str, Figures]] = field(default_factory=list[dict[str, Figures]])

    def values(self, name: str, row: str) -> list[float]:
        """Return the figures of a program in a row, one for each round that has it."""
        return [one[name][row] for one in self.rounds if row in one.get(name, {})]

    def median(self, name: str, row: str) -> float | None:
        """Return the median of a program in a row, or None if it has no figure."""
        found = self.values(name, row)
        return statistics.median(found) if found else None

    def names(self) -> list[str]:
        """Return the programs that have figures, in the order of the first round that has them."""
        return list(dict.fromkeys(name for one in self.rounds for name in one))

    def best_peer(self, row: str) -> str | None:
        """Return the peer with the best median in a row."""
        return self._best(row, [name for name in self.names() if name not in NOT_PEERS])

    def best_python_peer(self, row: str) -> str | None:
        """Return the peer in Python with the best median in a row."""
        return self._best(row, [name for name in self.names() if name not in NOT_PEERS | {BULLMQ}])

    def _best(self, row: str, names: Iterable[str]) -> str | None:
        medians = {name: value for name in names if (value := self.median(name, row)) is not None}
        if not medians:
            return None
        choose = min if row in LESS_IS_BETTER else max
        return choose(medians, key=lambda name: medians[name])

    def ratio(self, row: str, beside: str, *, own: str = OURS, other_row: str | None = None) -> float | None:
        """Return the median of the ratios of each round, or None if no round has both figures."""
        found = [
            one[own][row] / one[beside][other_row or row]
            for one in self.rounds
            if row in one.get(own, {}) and one.get(beside, {}).get(other_row or row)
        ]
        return statistics.median(found) if found else None


@dataclass(frozen=True)
class Goal:
    """A ratio that Flowli wants. `beside` chooses the program that it is compared with."""

    what: str
    row: str
    bound: float
    beside: Callable[[Recorded], str | None] | None = None
    other_row: str | None = None
    at_most: bool = False

    def measured(self, run: Recorded) -> tuple[str, float | None]:
        """Return the program that Flowli is compared with, and the ratio, or the figure if there is none."""
        if self.beside is None:
            return "", run.median(OURS, self.row)
        name = self.beside(run)
        return name or "", None if name is None else run.ratio(self.row, name, other_row=self.other_row)

    def is_met(self, value: float) -> bool:
        """Return True if a measured ratio is good enough."""
        return value <= self.bound if self.at_most else value >= self.bound


def _the(name: str) -> Callable[[Recorded], str | None]:
    return lambda _: name


GOALS = (
    Goal("drain, one process, beside BullMQ", "drain", 4, _the(BULLMQ)),
    Goal("drain, one process, beside the best in Python", "drain", 4, lambda run: run.best_python_peer("drain")),
    Goal("drain, one process, beside the ideal loop", "drain", 0.5, _the(LOOP)),
    Goal("drain, two processes, beside one", "drain by two", 1.6, _the(OURS), other_row="drain"),
    Goal("server time per drained job, beside BullMQ", "server us", 9 / 40, _the(BULLMQ), at_most=True),
    Goal("enqueue one by one, beside one bare script call", "one", 0.9, _the(LOOP)),
    Goal("enqueue, 100 in flight, beside the best peer", "flight", 2, lambda run: run.best_peer("flight")),
    Goal("enqueue many, beside the best peer", "many", 1.2, lambda run: run.best_peer("many")),
    Goal("pickup p50, beside a bare blocking pop", "p50", 1.2, _the(POP), at_most=True),
    Goal("pickup p99, beside a bare blocking pop", "p99", 1.3, _the(POP), at_most=True),
    Goal("commands per second of an idle worker", "idle", 0.5, at_most=True),
    Goal(
        "server time per drained job above delayed jobs, beside above none",
        "server us above delayed",
        1.1,
        _the(OURS),
        other_row="server us above none",
        at_most=True,
    ),
    Goal("bytes per queued job", "bytes", 420, at_most=True),
)
