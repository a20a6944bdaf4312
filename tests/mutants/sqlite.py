"""Known ways to break guards of SQLite, in SQL and Python.

They are sorted by the file that they break, and by the tests that must notice them.
"""

from __future__ import annotations

from tests.mutants.mutation import Changes

SQLITE: dict[tuple[str, str], Changes] = {
    ("_watcher.py", "tests/sqlite/test_waiting.py"): (
        ("a wait misses a suspect that came during another", "self._seen.get(queue) != version", "False"),
    ),
    ("_wakeups.py", "tests/conformance/test_wait.py"): (
        ("suspects end every wait", "elif (ordinary or suspects) and not", "elif not"),
    ),
    ("sql/control.sql", "tests/conformance/test_tokens.py"): (
        ("heartbeat does not check the token", "AND (id, token) IN (", "AND (id, 1) IN (SELECT id, 1 UNION "),
        ("heartbeat does not check the worker", "    AND worker = :worker\n"),
    ),
    ("sql/step.sql", "tests/conformance/test_pause.py"): (
        ("a paused queue is reserved from", "WHERE paused_queue.queue", "WHERE 0 AND paused_queue.queue"),
    ),
    ("sql/time.sql", "tests/conformance/test_pause.py"): (
        ("a paused queue is something to do", "WHERE paused_queue.queue", "WHERE 0 AND paused_queue.queue"),
    ),
    ("_records.py", "tests/conformance/test_pause.py"): (
        ("any number of queues is paused", "> MOST_PAUSED:", "> 10**9:"),
    ),
    ("sql/step.sql", "tests/conformance/test_late_reports.py"): (
        ("a recovery is taken back for any token", "AND recovered_token = :token AND", "AND"),
        ("recoveries are taken back without a limit", " AND taken_back < :most"),
        (
            "a recovery of a failed record is taken back",
            " AND state IN ('waiting', 'active') AND recoveries",
            " AND recoveries",
        ),
        ("a recovery is taken back twice", "    recovered_token = NULL,\n"),
        ("a suspect stays one", "suspect = (recoveries - 1 >= max_recoveries)", "suspect = suspect"),
    ),
    ("_step.py", "tests/conformance/test_late_reports.py"): (
        ("a late ack takes no recovery back", 'if result == "lost":', "if False:"),
    ),
    ("_records.py", "tests/conformance/test_late_reports.py"): (
        ("a late heartbeat takes no recovery back", "    for held in lost:\n", "    for held in []:\n"),
    ),
    ("sql/control.sql", "tests/conformance/test_requeue.py"): (
        ("a requeued record takes a held key", "WHERE key = :key AND number <> :number", "WHERE 0"),
    ),
    ("sql/control.sql", "tests/conformance/test_retention.py"): (
        ("purge ignores the age", "finished_at < :before ORDER", "finished_at IS NOT NULL ORDER"),
    ),
    ("sql/control.sql", "tests/conformance/test_batches.py"): (
        ("a purge of named records removes others", "id IN (SELECT value FROM json_each(:ids)) AND +state", "+state"),
        ("a purge of named records removes those in other states", "AND +state = :state"),
        ("a purge of named records ignores the age", "AND finished_at < :before\n", "\n"),
    ),
    ("_records.py", "tests/conformance/test_batches.py"): (
        (
            "a record in another state is cancelled",
            "if target.state not in {None, state_of(row.status, row.due, transaction.now)}:",
            "if False:",
        ),
        ("a record in another state is requeued", "if target.state not in {None, state}:", "if False:"),
    ),
    ("_driver.py", "tests/conformance/test_batches.py"): (
        ("any number of named records is purged", "check_number(ids or ())"),
    ),
    ("sql/read.sql", "tests/conformance/test_filters.py"): (
        ("a filter by name lists all", "(:name IS NULL OR name = :name)", "1"),
        ("a filter by queue lists all", "(:queue IS NULL OR queue = :queue)", "1"),
        ("a filter by age lists younger active records", "state <> 'active' OR started_at < :before", "1"),
        ("a filter by attempts lists all", ":hold IS NULL OR instr(CAST(attempts AS BLOB), :hold) > 0", "1"),
    ),
    ("_read.py", "tests/conformance/test_filters.py"): (
        ("a filtered listing ends before its end", "len(entries) == most or looked_at", "looked_at"),
        ("a filter by age lists younger records", "if query.older_than is not None:", "if False:"),
        ("a filtered call reads large records without a limit", " or size > _MOST_BYTES"),
    ),
    ("sql/step.sql", "tests/conformance/test_leases.py"): (
        ("a lease is recovered before it ends", "WHERE lease_end <= :now AND", "WHERE lease_end <= :now + 60000 AND"),
        ("a repeated ack is answered lost", "settled = :settled,", "settled = NULL,"),
    ),
    ("sql/step.sql", "tests/conformance/test_cancel.py"): (
        ("a requested cancellation outlives the run", "    cancel_at = 0,\n"),
    ),
    ("sql/step.sql", "tests/conformance/test_expiry.py"): (
        ("a record that has begun expires", " cancel_at = 0, started_at", " started_at"),
    ),
    ("_reserve.py", "tests/conformance/test_expiry.py"): (
        ("a suspect is reserved beside a record", "if columns[_SUSPECT] and not is_first:", "if False:"),
        ("an expired record is reserved", "if 0 < columns[_CANCEL_AT] <= self.transaction.now:", "if False:"),
        (
            "a record expires before its time",
            "if 0 < columns[_CANCEL_AT] <= self.transaction.now:",
            "if columns[_CANCEL_AT]:",
        ),
        ("any number of records expires in a step", "if len(self._late) == EXPIRE_PER_STEP:", "if False:"),
        ("an expired record is not counted", '            self.transaction.count(name, queue, "cancelled")\n'),
    ),
    ("_records.py", "tests/conformance/test_expiry.py"): (
        (
            "a requeued record expires",
            "row.cancel_at, row.attempts = 0, 0,",
            "row.cancel_at, row.attempts = 0, row.cancel_at,",
        ),
    ),
    ("sql/step.sql", "tests/conformance/test_order.py"): (
        ("a record runs before it is due", "suspect = :suspect AND due <= :now\n", "suspect = :suspect\n"),
    ),
    ("sql/step.sql", "tests/conformance/test_steps.py"): (
        (
            "a repeated step returns records of others",
            "lease_end IS NOT NULL AND token = :token AND worker = :worker;\n\n-- name: renew",
            "lease_end IS NOT NULL;\n\n-- name: renew",
        ),
        (
            "a repeated step extends leases of others",
            "lease_end IS NOT NULL AND token = :token AND worker = :worker;\n\n-- name: count",
            "lease_end IS NOT NULL;\n\n-- name: count",
        ),
    ),
    ("sql/step.sql", "tests/conformance/test_wait.py"): (
        ("both sequences of a worker are the same", "AND waits = :waits AND seen", "AND seen"),
    ),
    ("sql/step.sql", "tests/sqlite/test_older_copy.py"): (
        ("a token is used again after lost writes", "max(token + 1, :known + 1, 1000 * :now)", "token + 1"),
    ),
    ("sql/step.sql", "tests/conformance/test_tokens.py"): (
        ("a token that the worker knows is used again", "max(token + 1, :known + 1, 1000", "max(token + 1, 1000"),
    ),
    ("sql/time.sql", "tests/conformance/test_tokens.py"): (
        ("no token is skipped when the clock is set back", "token + :skipped", "token"),
    ),
    ("_settle.py", "tests/conformance/test_tokens.py"): (
        (
            "settle does not check the worker",
            "row.token != ack.token or row.worker != worker:",
            "row.token != ack.token:",
        ),
    ),
    ("sql/step.sql", "tests/conformance/test_retention.py"): (
        ("the newest records are trimmed", "ORDER BY finished_at, id LIMIT (", "ORDER BY finished_at DESC, id LIMIT ("),
    ),
    ("sql/step.sql", "tests/conformance/test_taken_ids.py"): (
        ("an id is free before its time", "FROM taken_id WHERE until <= :now", "FROM taken_id WHERE until > 0"),
    ),
    ("sql/time.sql", "tests/conformance/test_leases.py"): (
        ("leases get longer when the clock is set back", "max(lease_end - :by, :now) WHERE", "lease_end WHERE"),
        ("due records wait when the clock is set back", "suspect IN (0, 1) AND due > :now", "0"),
    ),
    ("sql/enqueue.sql", "tests/conformance/test_identities.py"): (
        ("a finished record keeps its key", "key IS NOT NULL AND finished_at IS NULL", "key IS NOT NULL"),
    ),
    ("sql/history.sql", "tests/sqlite/test_history.py"): (
        ("a damaged count is added to", "iif(typeof(n) = 'integer' AND n BETWEEN 0 AND 1 << 60, n, 0)", "n"),
        ("an ended minute is summed again", "kind = 'recent' AND start <> :minute", "kind = 'recent' AND 0"),
        ("many old counts are removed at a time", "ORDER BY start LIMIT 1 OFFSET :limit), :until", "LIMIT 0), :until"),
    ),
    ("sql/history.sql", "tests/conformance/test_history.py"): (
        ("old counts are kept", "kind = :kind AND start <= min(", "kind = :kind AND 0 AND start <= min("),
    ),
    ("_history.py", "tests/sqlite/test_history.py"): (
        ("the drivers of a file count more pairs", "self._pairs |= _find_pairs", "_find_pairs"),
        ("the texts of a count are not checked", "if type(count.name) is type(count.queue)", "if str"),
    ),
    ("_history.py", "tests/conformance/test_history.py"): (
        ("the limit of pairs is ignored", "len(pairs) >= MOST_HISTORY_JOBS", "False"),
        ("all other pairs take the place of a pair", "pair == _OTHERS or", "False or"),
        ("the running minute is not read", "        counts += [count for", "        [count for"),
    ),
    ("_settle.py", "tests/conformance/test_history.py"): (
        ("a release counts as an attempt", "    if not isinstance(ack.outcome, Released):\n", "    if True:\n"),
        ("a cancelled attempt counts as retried", 'if row.status == "waiting" else row.status\n', "\n"),
    ),
    ("_settle.py", "tests/conformance/test_leases.py"): (
        ("settle does not check the token", "row.token != ack.token or", "row.token is None or"),
        ("a recovery by its own worker counts", "        if row.worker != step.worker:\n", "        if True:\n"),
        (
            "a waiting step recovers the leases of its own worker",
            "if step.wait is not None and row.worker == step.worker:",
            "if False:",
        ),
        ("the limit of recoveries is one too low", "row.recoveries > row.max", "row.recoveries >= row.max"),
        ("the limit of recoveries is ignored", "row.recoveries > row.max_recoveries and", "False and"),
    ),
    ("_reserve.py", "tests/conformance/test_leases.py"): (
        (
            "a record is reserved beside a suspect",
            "if columns[_SUSPECT] or not self.left:",
            "if not self.left:",
        ),
    ),
    ("_schedules.py", "tests/conformance/test_schedules.py"): (
        ("a schedule is changed at any revision", "    if revision != (", "    if False and revision != ("),
    ),
    ("_enqueue.py", "tests/conformance/test_identities.py"): (
        (
            "an id that occurs twice in a call is stored twice",
            "rows[record_id], stored[record_id] = row, answer",
            "rows[new.id] = row",
        ),
    ),
    ("_step.py", "tests/conformance/test_steps.py"): (
        (
            "a repeated step is executed again",
            "or step.sequence > last.sequence or",
            "or step.sequence >= last.sequence or",
        ),
        (
            "late copies of old steps are executed",
            "or step.sequence > last.sequence or",
            "or step.sequence != last.sequence or",
        ),
    ),
    ("_transaction.py", "tests/sqlite/test_faults.py"): (
        ("half of a failed transaction is stored", 'connection.execute("ROLLBACK")', 'connection.execute("COMMIT")'),
    ),
    ("_transaction.py", "tests/sqlite/test_damage.py"): (
        (
            "readers ignore a clock that was set back",
            "and not _is_damaged(connection, now, last) else",
            "and False else",
        ),
    ),
    ("sql/time.sql", "tests/sqlite/test_damage.py"): (
        (
            "the time of a change is no sign that the clock was set back",
            "    (SELECT max(updated_at) FROM record WHERE typeof(updated_at) = 'integer'),\n",
        ),
    ),
}
