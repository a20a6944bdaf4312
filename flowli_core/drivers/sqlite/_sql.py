"""The SQL statements by name, from the files in sql/. A line like `-- name: reserve` starts a statement."""

import sqlite3
from importlib.resources import files
from typing import Any, Final


def _load() -> dict[str, str]:
    found: dict[str, str] = {}
    for file in files("flowli_core.drivers.sqlite").joinpath("sql").iterdir():
        for part in file.read_text(encoding="utf-8").split("-- name: ")[1:]:
            name, _, text = part.partition("\n")
            found[name] = text.strip()
    return found


SQL: Final = _load()


def run(connection: sqlite3.Connection, statement: str, **parameters: Any) -> sqlite3.Cursor:
    """Run the statement with this name."""
    return connection.execute(SQL[statement], parameters)
