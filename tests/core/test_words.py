"""The project's texts are in plain words: no phrase that readers stumble over, no docstring that opens as a fragment.

The lists are short on purpose. They hold the phrases that cost readers most often, each with what to write instead.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = (
    *("flowli", "flowli_core", "flowli_starlette", "flowli_fastapi", "flowli_litestar"),
    *("tests", "examples", "benchmarks", "docs", ".github", ".ci"),
)
KINDS = {".py", ".lua", ".sql", ".md", ".yml", ".yaml", ".service", ""}
FILES = sorted(
    path
    for path in [*ROOT.glob("*"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))]
    if path.suffix in KINDS and path.is_file() and path != Path(__file__) and "_build" not in path.parts
)

PHRASES = {
    r"(is|are|was|were|be) had": "fires, runs, is reserved",
    r"whatever runners there are": "any running worker",
    r"(heard|hears|hear) (of|from)": "last seen, alive",
    r"going on trying": "retrying",
    r"(store|server|redis) (is|was|were) away": "is unreachable",
    r"(handed|given|gives|giving|give|gave) (\w+ )?back": "return, release",
    r"stands? in the code": "is declared in code",
    r"what becomes of": "what to do with",
    r"that cannot be(?=[.:;,)])": "invalid",
    r"at the most": "at most",
    r"nothing may be left": "a sentence that says what is removed",
    r"(is|are|was|were|be) told": "is notified, is called with",
    r"(tells?|told) (of|whether)": "return, report",
    r"here and now": "now, in this process",
    r"as well where": "also if",
    r"let(s|ting)? go of": "close, release",
}
"""Phrases that the project does not use, and what to write instead."""

GAP = r"\s+(?:(?:#|--) *)?"
"""The space between two words, which may be the end of a line of a comment."""

OPENING = re.compile(r"\s*(What|Whether|Answers?|Where|One (that|who)|Ones|Who|Of|How|Tells?)\b")
"""A docstring says what its function does ("Return", "Store"), or what its class or module is ("The loop that")."""


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the docstrings of a file, and the strings that describe a constant or a field."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def test_no_text_uses_a_phrase_that_readers_stumble_over() -> None:
    found: list[str] = []
    for path in FILES:
        text = path.read_text()
        for phrase, instead in PHRASES.items():
            for match in re.finditer(rf"\b{phrase.replace(' ', GAP)}\b", text, re.IGNORECASE):
                number = text.count("\n", 0, match.start()) + 1
                found.append(f"{path.relative_to(ROOT)}:{number}: {' '.join(match[0].split())!r}: write {instead!r}")
    assert not found, "\n".join(found)


def test_no_docstring_opens_as_a_question_or_a_fragment() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {text.strip().splitlines()[0]}"
        for path in FILES
        if path.suffix == ".py"
        for number, text in docstrings(path)
        if OPENING.match(text)
    ]
    assert not found, "\n".join(found)
