"""The description of a worker in the store: the queues that it serves and the jobs that it knows."""

from collections.abc import Iterable
from dataclasses import dataclass

from flowli_core._wire.versioned import VersionedJson


@dataclass(frozen=True, slots=True)
class About:
    """The queues that a worker serves, in their order, and the names of the jobs that it runs, with their aliases."""

    queues: tuple[str, ...]
    jobs: tuple[str, ...]


_STORED = VersionedJson(About, version=1, label="the description of a worker")


def pack_about(queues: tuple[str, ...], jobs: Iterable[str]) -> bytes:
    """Write the description of a worker as JSON."""
    return _STORED.pack(About(queues, tuple(sorted(jobs))))


def unpack_about(wire: bytes) -> About | None:
    """Read the description of a worker. Return None if it is missing, damaged or written by a later release."""
    try:
        return _STORED.unpack(wire)
    except ValueError:
        return None
