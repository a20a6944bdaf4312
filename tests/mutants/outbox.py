"""Known ways to break the way of jobs from the transaction of a session to the store."""

from __future__ import annotations

from tests.mutants.mutation import Changes

OUTBOX: dict[tuple[str, str], Changes] = {
    ("sqlalchemy/_outbox.py", "tests/outbox/test_claims.py"): (
        ("rows of others are claimed", "free = table.c.claimed_until <= now", "free = table.c.number > 0"),
        ("a claim has no end in the future", '{"claimed_until": now + _CLAIM_MS,', '{"claimed_until": now,'),
        ("rows that are held up are sent", "        held = set(late)\n", "        held = set[int]()\n"),
        ("rows that are held up stay claimed", "        if late:\n", "        if False:\n"),
        ("a row that cannot be read holds up others", "        if unreadable:\n", "        if False:\n"),
        ("refused rows are tried at once", "_now() + _POSTPONE_MS", "0"),
        ("a refused row holds up others", '"claimed_by": _REFUSED}', '"claimed_by": "another"}'),
    ),
    ("sqlalchemy/_outbox.py", "tests/outbox/test_relay.py"): (
        ("the age of a row is ignored", "max(now - created_at, 0)", "0"),
    ),
    ("sqlalchemy/_outbox.py", "tests/outbox/test_ends.py"): (
        ("an AsyncEngine is used on any event loop", "if is_background(here):", "if False:"),
        ("the event loop of an AsyncEngine is not used", "if self._loop is here:", "if True:"),
    ),
    ("sqlalchemy/_sessions.py", "tests/outbox/test_sessions.py"): (
        (
            "a savepoint that is rolled back keeps its jobs",
            "if not _is_within(added.savepoint, ended)]",
            "]",
        ),
        (
            "a session that is closed keeps its jobs",
            '            self._added, self._id = [], ""\n',
            "            pass\n",
        ),
        ("a session that joins a transaction sends", "        if not self._is_joined:\n", "        if True:\n"),
        (
            "jobs are sent at the commit of a savepoint",
            "        if session.in_nested_transaction():\n            return\n",
            "",
        ),
    ),
    ("sqlalchemy/_sessions.py", "tests/outbox/test_savepoints_and_ends.py"): (
        (
            "a row that was rolled back is not written again",
            "                    added.written_in = None\n",
            "                    pass\n",
        ),
        (
            "a savepoint that was committed counts as rolled back",
            "elif ended.nested and ended is not self._committed:",
            "elif ended.nested:",
        ),
        (
            "a session sends to the registry of its first call",
            "_group(committed, lambda added: added.target.on_commit)",
            "_group(committed, lambda _: committed[0].target.on_commit)",
        ),
    ),
    ("_jobs/deliveries.py", "tests/outbox/test_relay.py"): (
        (
            "rows are removed before the store has their records",
            "            try:\n                accepted = await self._accept(batch)\n",
            (
                "            await self._remove([one.id for one in batch])\n"
                "            try:\n                accepted = await self._accept(batch)\n"
            ),
        ),
        ("the row of a refused record is removed", "            return []\n", "            return [record.id]\n"),
        ("one refused record holds up the others", "if len(batch) > 1:", "if False:"),
    ),
    ("_jobs/deliveries.py", "tests/outbox/test_ends.py"): (
        (
            "a read does not wait for what was committed",
            "            await sender.is_stored.wait()\n",
            "            pass\n",
        ),
        ("a relay keeps its claims", "await self._outbox.release([record.id for record in rest])", "pass"),
        ("a closed registry claims rows", "        await self._store()  # Claim nothing", "        # Claim nothing"),
        ("a registry does not wait for what was committed", "timeout=_END_WITHIN", "timeout=0"),
    ),
    ("_running/relay.py", "tests/outbox/test_ends.py"): (
        (
            "a relay that is cancelled drops its claims",
            "        await asyncio.wait((relay,), timeout=_END_WITHIN)\n",
            "",
        ),
        (
            "a closed registry fails the relay",
            "        except StrategyError:\n            return\n",
            "        except ZeroDivisionError:\n            return\n",
        ),
    ),
}
