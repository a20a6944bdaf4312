"""All known ways to break guards in SQL and Python."""

from __future__ import annotations

from tests.mutants.bulk import BULK
from tests.mutants.mutation import Mutation
from tests.mutants.outbox import OUTBOX
from tests.mutants.running import MEMORY, RUNNING
from tests.mutants.sqlite import SQLITE
from tests.mutants.sqlite_keys import SQLITE_KEYS
from tests.mutants.sqlite_lanes import SQLITE_LANES

_SETS = (
    ("flowli_core/drivers/sqlite/", ("-k", "sqlite"), SQLITE),
    ("flowli_core/drivers/sqlite/", ("-k", "sqlite"), SQLITE_KEYS),
    ("flowli_core/drivers/sqlite/", ("-k", "sqlite"), SQLITE_LANES),
    ("flowli_core/drivers/memory/", ("-k", "memory"), MEMORY),
    ("flowli_core/_running/", (), RUNNING),
    ("flowli_core/", (), BULK),
    ("flowli_core/", ("-k", "sqlite or script"), OUTBOX),
)

GUARDS = tuple(
    Mutation(folder + file, (tests, *words), *change)
    for folder, words, all_changes in _SETS
    for (file, tests), changes in all_changes.items()
    for change in changes
)
