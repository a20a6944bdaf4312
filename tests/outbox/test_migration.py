"""The migration that the documentation shows makes the table of an outbox."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import MetaData

from flowli_core.sqlalchemy import outbox_table

SHOWN = (Path(__file__).parents[2] / "docs" / "outbox-migration.md").read_text()


def test_the_shown_migration_has_the_columns_and_indexes_of_the_table() -> None:
    table = outbox_table(MetaData())
    columns = dict(re.findall(r'sa\.Column\("(\w+)", .* nullable=(\w+)\)', SHOWN))
    assert columns == {column.name: str(column.nullable) for column in table.columns}
    indexes = re.findall(r'op\.create_index\("(\w+)", "flowli_outbox", \[(.*)\]\)', SHOWN)
    assert {name: text.replace('"', "").split(", ") for name, text in indexes} == {
        str(index.name): [column.name for column in index.columns] for index in table.indexes
    }
