-- name: find_records
-- The columns are those of `Row`. Records that were set aside are left out, because their text may be undecodable.
SELECT
    number, id, name, queue, key, behind, lane, unique_until, state, due, token, settled, cancel_at, recoveries, max_recoveries,
    keep_completed, keep_failed, CAST(attempts AS BLOB), CAST(started_at AS INTEGER), CAST(failed_at AS INTEGER), worker
FROM record WHERE id IN (SELECT value FROM json_each(:ids)) AND (damage IS NULL OR state IN ('waiting', 'active'));

-- name: find_reported
-- The record that the worker holds under this token, and its log.
SELECT record.number, CAST(log.token AS INTEGER), CAST(log.count AS INTEGER), CAST(log.lines AS BLOB)
FROM record LEFT JOIN log ON log.number = record.number
WHERE record.id = :id AND record.token = :token AND record.worker = :worker AND record.lease_end IS NOT NULL;

-- name: put_progress
INSERT OR REPLACE INTO progress (number, progress) VALUES (:number, :progress);

-- name: put_log
INSERT OR REPLACE INTO log (number, token, count, lines) VALUES (:number, :token, :count, :lines);

-- name: find_expired
-- The records whose lease has ended, the first first. The columns are the meta and those of `Row`.
SELECT
    (SELECT CAST(meta AS BLOB) FROM payload WHERE payload.number = record.number),
    number, id, name, queue, key, behind, lane, unique_until, state, due, token, settled, cancel_at, recoveries, max_recoveries,
    keep_completed, keep_failed, CAST(attempts AS BLOB), CAST(started_at AS INTEGER), CAST(failed_at AS INTEGER), worker
FROM record WHERE lease_end <= :now AND +state = 'active' ORDER BY lease_end, id LIMIT :limit;

-- name: write_record
-- Make a record wait, or finish it.
UPDATE record SET
    state = :state,
    due = :due,
    token = NULL,
    lease_end = NULL,
    cancel_at = 0,
    settled = :settled,
    recoveries = :recoveries,
    suspect = (:recoveries >= max_recoveries),
    attempts = :attempts,
    result = :result,
    started_at = :started_at,
    failed_at = :failed_at,
    finished_at = :finished_at,
    forget_at = :forget_at,
    updated_at = :now
WHERE number = :number;

-- name: finish_behind
-- Finish a record that is behind another. That one holds the key from now on.
UPDATE record SET behind = NULL, state = :state, finished_at = :finished_at, forget_at = :forget_at WHERE number = :number;

-- name: admit
-- The records behind these have their turn now.
UPDATE record SET behind = NULL
WHERE behind IN (SELECT value FROM json_each(:numbers)) AND behind IS NOT NULL
RETURNING queue, key, lane;

-- name: keep_key
INSERT OR REPLACE INTO unique_key (key, id, until) VALUES (:key, :id, :until);

-- name: note_recovery
-- The recovery under this token counts.
UPDATE record SET recovered_token = :token WHERE number = :number;

-- name: take_back_recovery
-- The worker of a recovered lease has reported after all: it is alive, so the recovery does not count.
UPDATE record SET
    recoveries = recoveries - 1,
    suspect = (recoveries - 1 >= max_recoveries),
    recovered_token = NULL,
    taken_back = taken_back + 1
WHERE id = :id AND recovered_token = :token AND state IN ('waiting', 'active') AND recoveries > 0 AND taken_back < :most
RETURNING queue, state, lane;

-- name: find_due
-- The due records of a queue: its suspects, or the others; none if the queue is paused.
SELECT number, due, id, name, queue, suspect, recoveries, attempts, input, meta, policy, cancel_at
FROM stored WHERE queue = :queue AND state = 'waiting' AND apart = 0 AND suspect = :suspect AND due <= :now
    AND NOT EXISTS (SELECT 1 FROM paused_queue WHERE paused_queue.queue = :queue AND since BETWEEN 0 AND 1e14)
ORDER BY due, id LIMIT :limit OFFSET :skipped;

-- name: next_token
-- Greater than the one that the worker knows, and at least the time in microseconds, so no token is used again after the
-- file was replaced by an older copy.
UPDATE store SET token = max(token + 1, :known + 1, 1000 * :now) WHERE typeof(token) = 'integer' RETURNING token;

-- name: reserve
UPDATE record SET
    state = 'active', token = :token, lease_end = :lease_end, worker = :worker, cancel_at = 0, started_at = :now,
    updated_at = :now
WHERE number IN (SELECT value FROM json_each(:numbers));

-- name: cancel_expired
-- Cancel records that have expired. They keep that time in cancel_at.
UPDATE record SET state = 'cancelled', finished_at = :now, forget_at = :now + keep_failed, updated_at = :now
WHERE number IN (SELECT value FROM json_each(:numbers));

-- name: find_held
-- The records that the worker still holds under this token. Only for a step that is sent again.
SELECT number, due, id, name, queue, suspect, recoveries, attempts, input, meta, policy, cancel_at
FROM stored WHERE lease_end IS NOT NULL AND token = :token AND worker = :worker;

-- name: renew_batch
UPDATE record SET lease_end = :lease_end WHERE lease_end IS NOT NULL AND token = :token AND worker = :worker;

-- name: count_finished
SELECT state, sum(n) FROM counts WHERE state IN ('completed', 'failed', 'cancelled') GROUP BY state;

-- name: trim_expired
DELETE FROM record WHERE number IN (
    SELECT number FROM record WHERE forget_at <= :now AND +finished_at <= :now ORDER BY forget_at LIMIT :limit
);

-- name: trim_oldest
-- Remove up to :limit of those beyond :keep. Count them first: nothing must be removed if the stored count is wrong.
DELETE FROM record WHERE number IN (
    SELECT number FROM record WHERE state = :state AND finished_at IS NOT NULL ORDER BY finished_at, id LIMIT (
        SELECT max(count(*) - :keep, 0) FROM (
            SELECT 1 FROM record WHERE state = :state AND finished_at IS NOT NULL LIMIT :keep + :limit
        )
    )
);

-- name: forget_ids
DELETE FROM taken_id WHERE number IN (SELECT number FROM taken_id WHERE until <= :now ORDER BY until LIMIT :limit);

-- name: forget_oldest_ids
DELETE FROM taken_id WHERE number <= (SELECT max(number) FROM taken_id) - :most;

-- name: forget_keys
DELETE FROM unique_key WHERE number IN (SELECT number FROM unique_key WHERE until <= :now ORDER BY until LIMIT :limit);

-- name: forget_oldest_keys
DELETE FROM unique_key WHERE number <= (SELECT max(number) FROM unique_key) - :most;

-- name: find_step
SELECT sequence, token, acks FROM worker WHERE id = :worker AND waits = :waits AND seen > :since;

-- name: remember_step
INSERT INTO worker (id, waits, seen, sequence, token, acks, about)
VALUES (:worker, :waits, :now, :sequence, :token, :acks, :about)
ON CONFLICT (id, waits) DO UPDATE SET
    seen = excluded.seen, sequence = excluded.sequence, token = excluded.token, acks = excluded.acks,
    about = coalesce(excluded.about, about);

-- name: note_seen
-- Both steps of a worker are remembered for as long as it is seen.
UPDATE worker SET seen = :now WHERE id = :worker;

-- name: forget_worker
DELETE FROM worker WHERE id = :worker;

-- name: forget_workers
DELETE FROM worker WHERE seen <= :until;
