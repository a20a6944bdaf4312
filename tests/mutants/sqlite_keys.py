"""Known ways to break the guards of keys in SQLite: see `guards.py`."""

from __future__ import annotations

from tests.mutants.mutation import Changes

_REPLACE, _UNIQUE = "tests/conformance/test_replace.py", "tests/conformance/test_unique.py"
_IN_THE_FILE = "tests/sqlite/test_keys.py"

SQLITE_KEYS: dict[tuple[str, str], Changes] = {
    ("_enqueue.py", _REPLACE): (
        (
            "a record is replaced by one that keeps",
            '(new.on_conflict == "keep" or holder.status == "completed")',
            "False",
        ),
        ("an active record is replaced", 'if holder is not None and holder.status == "active":', "if False:"),
        (
            "a record behind another is replaced beside it",
            "holder.created_at, holder.behind",
            "holder.created_at, None",
        ),
        ("a replaced record is as old as the new one", "holder.created_at, holder.behind", "now, holder.behind"),
        ("a record waits longer than its max_wait", "if new.max_wait is not None:", "if False:"),
        ("a record is due in the past", "milliseconds(new.max_wait)), now)", "milliseconds(new.max_wait)), 0)"),
        ("a record of a call does not replace one before it", "if record_id not in rows:", "if True:"),
        (
            "a replacement counts as enqueued",
            "if record_id not in rows:",
            'if transaction.count(new.name, new.queue, "enqueued") or record_id not in rows:',
        ),
    ),
    ("_enqueue.py", _UNIQUE): (
        ("a completed record is replaced", ' or holder.status == "completed")', ")"),
        ("a key is unique from the replacement on", '"unique_until": created_at +', '"unique_until": now +'),
    ),
    ("sql/enqueue.sql", _REPLACE): (
        ("the record in front holds the key", "ORDER BY behind IS NOT NULL;", "ORDER BY behind IS NULL;"),
    ),
    ("sql/enqueue.sql", _UNIQUE): (("a key is kept beyond its time", "until > :now AND until", "until"),),
    ("sql/enqueue.sql", _IN_THE_FILE): (
        ("a damaged key is kept for ever", "until > :now AND until <= 1 << 60", "until > :now"),
    ),
    ("sql/step.sql", _REPLACE): (
        ("a record behind another is reserved", "AND apart = 0 AND", "AND apart IN (0, lane IS NULL) AND"),
        ("a record that is cancelled stays behind", "SET behind = NULL, state = :state", "SET state = :state"),
    ),
    ("sql/step.sql", _IN_THE_FILE): (
        ("kept keys are not forgotten", "FROM unique_key WHERE until <= :now", "FROM unique_key WHERE 0"),
    ),
    ("sql/step.sql", _UNIQUE): (("any number of keys is kept", "(SELECT max(number) FROM unique_key) - :most", "0"),),
    ("sql/time.sql", _REPLACE): (
        ("a record behind another is something to do", "AND apart = 0 AND suspect = :", "AND suspect = :"),
    ),
    ("sql/time.sql", _IN_THE_FILE): (
        ("a record behind another is not due when the clock is set back", "apart = 1 AND due > :now", "0"),
    ),
    ("sql/control.sql", _UNIQUE): (
        ("a kept key is taken by a requeue", "UNION ALL SELECT 1 FROM unique_key WHERE key = :key", "AND :id AND :now"),
        ("a record cannot be requeued because of its own key", "AND id <> :id AND until", "AND until"),
    ),
    ("sql/read.sql", _REPLACE): (
        ("a replacement is no change for watchers", "id, number, state, token", "id, state, token"),
        (
            "a record behind another is in no list",
            "state = 'waiting' AND apart = 1 AND due > :after AND (due, id)",
            "0 AND (due, id)",
        ),
    ),
    ("sql/damage.sql", _IN_THE_FILE): (
        ("a damaged record stays behind another", "cancel_at = 0, behind = NULL,", "cancel_at = 0,"),
    ),
    ("_damage.py", _IN_THE_FILE): (
        (
            "a record that is set aside frees none behind it",
            "            if found or run(",
            "            if run(",
        ),
        ("damaged keys are kept", "            _remove_damaged_keys(connection)\n"),
        (
            "an idle step admits no record behind none",
            '        _stop_schedules(connection)\n        run(connection, "mend_behind")\n        _count_again',
            "        _stop_schedules(connection)\n        _count_again",
        ),
    ),
    ("_records.py", _REPLACE): (
        (
            "a retry needs the key",
            "if row.key is not None and row.status in FINISHED:\n        held",
            "if row.key is not None:\n        held",
        ),
    ),
    ("_records.py", _UNIQUE): (
        ("a record in front keeps the key", " and row.key not in passed_on:", ":"),
        ("a failed record keeps its key", 'if row.status == "completed" and row.unique', "if row.unique"),
        ("a requeued record keeps its key", '        transaction.run("forget_key", key=row.key)\n'),
    ),
}
