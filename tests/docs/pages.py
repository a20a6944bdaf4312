"""The pages of the documentation, and their programs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {
    str(path.relative_to(DOCS)): path.read_text()
    for path in sorted(DOCS.rglob("*.md"))
    if DOCS / "_build" not in path.parents
}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
FORMER = {"outbox-migration.md"}
"""Pages whose programs are run by other tests."""


@dataclass(frozen=True, slots=True)
class Program:
    """A file of a page, and what the page shows as its output."""

    page: str
    name: str
    text: str
    output: str | None


def code(page: str) -> str:
    """Return the text of all code blocks of a page."""
    return "".join(found[2] for found in BLOCK.finditer(PAGES[page]))


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings: list[str] = re.findall(r"^#+ (.+)$", BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _programs() -> list[Program]:
    found: list[Program] = []
    for page in PAGES.keys() - FORMER:
        for block in BLOCK.finditer(PAGES[page]):
            name = re.match(r"# (\S+\.py)\n", block[2])
            if block[1] == "python":
                assert name is not None, f"{page}: a program has no name:\n{block[2]}"
                found.append(Program(page, name[1], block[2][name.end() :], block[3]))
    return sorted(found, key=lambda program: (program.page, program.name))


PROGRAMS = _programs()
