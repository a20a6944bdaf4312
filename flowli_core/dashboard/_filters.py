"""The filters of a list of jobs, as they are given in an address or a form."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlencode

FIELDS = ("state", "name", "queue", "error", "older_than")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilters:
    """The jobs that a reader wants to see or change. Only the calls that take the filters check them."""

    state: str
    name: str | None = None
    queue: str | None = None
    error: str | None = None
    older_than: str | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of calls such as `jobs.inspect.find`."""
        return asdict(self)

    @property
    def is_narrow(self) -> bool:
        """True if there are filters beside the state."""
        return any((self.name, self.queue, self.error, self.older_than))

    @property
    def back(self) -> str:
        """The page that lists the jobs."""
        return f"/jobs?{self._query}"

    def confirm(self, action: str) -> str:
        """Return the page that asks before an action on the jobs."""
        return f"/confirm?action={action}&{self._query}"

    @property
    def _query(self) -> str:
        return urlencode({name: value for name, value in asdict(self).items() if value})

    def describe(self, count: int | None = None) -> str:
        """Return the filters in words, such as "312 failed jobs of send_email with ConnectionError"."""
        number = "all" if count is None else f"{count:,}"
        parts = [f"{number} {self.state} {'job' if count == 1 else 'jobs'}"]
        parts += [f"of {self.name}"] if self.name else []
        parts += [f"in the queue {self.queue}"] if self.queue else []
        parts += [f"with {self.error}"] if self.error else []
        parts += [f"older than {self.older_than}"] if self.older_than else []
        return " ".join(parts)


def read_filters(given: Mapping[str, str], *, state: str = "failed") -> JobFilters:
    """Read the filters. `state` is the state if none is given."""
    found = {name: text for name in FIELDS if (text := given.get(name, "").strip())}
    return JobFilters(**{"state": state, **found})
