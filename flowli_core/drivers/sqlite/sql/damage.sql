-- name: find_possibly_damaged
-- The records of a range that may be damaged. A text with characters beyond ASCII is checked in Python.
SELECT
    number, id, name, queue, key, lane, state, due, token, settled, lease_end, worker, cancel_at, recoveries,
    max_recoveries, keep_completed, keep_failed, keep_id, unique_until, finished_at, forget_at, suspect, (
        SELECT ifnull(length(input), 0) + ifnull(length(meta), 0) + ifnull(length(policy), 0)
        FROM payload WHERE payload.number = record.number
    ) AS size
FROM record WHERE number > :after AND number <= :until AND (:known OR damage IS NULL) AND (
    typeof(id) = 'text' AND typeof(name) = 'text' AND typeof(queue) = 'text'
    AND typeof(key) IN ('text', 'null') AND typeof(worker) IN ('text', 'null') AND typeof(lane) IN ('text', 'null')
    AND id || name || queue || ifnull(key, '') || ifnull(replace(lane, char(10), ''), '') || ifnull(worker, '') NOT GLOB '*[^ -~]*'
    AND (lane IS NULL OR lane GLOB char(10) || '*' || char(10) || '*')
    AND state IN ('waiting', 'active', 'completed', 'failed', 'cancelled')
    AND typeof(due) = 'integer' AND due BETWEEN 0 AND :last
    AND ifnull(size, 0) <= :longest
    AND typeof(recoveries) = 'integer' AND recoveries BETWEEN 0 AND :most
    AND typeof(max_recoveries) = 'integer' AND max_recoveries BETWEEN 0 AND :most
    AND suspect = (recoveries >= max_recoveries)
    AND typeof(cancel_at) = 'integer' AND cancel_at BETWEEN 0 AND :last
    AND typeof(keep_completed) = 'integer' AND keep_completed BETWEEN 0 AND :most
    AND typeof(keep_failed) = 'integer' AND keep_failed BETWEEN 0 AND :most
    AND typeof(keep_id) = 'integer' AND keep_id BETWEEN 0 AND :most
    AND typeof(unique_until) = 'integer' AND unique_until BETWEEN 0 AND :most
    AND (settled IS NULL OR (typeof(settled) = 'integer' AND settled BETWEEN 0 AND :most))
    AND iif(
        state = 'active',
        typeof(token) = 'integer' AND token BETWEEN 0 AND :most
        AND typeof(lease_end) = 'integer' AND lease_end BETWEEN 0 AND :most,
        token IS NULL AND lease_end IS NULL
    )
    AND iif(
        state IN ('waiting', 'active'),
        finished_at IS NULL AND forget_at IS NULL,
        typeof(finished_at) = 'integer' AND finished_at BETWEEN 0 AND :last
        AND typeof(forget_at) = 'integer' AND forget_at BETWEEN 0 AND :most
    )
) IS NOT TRUE;

-- name: find_end
-- The end of the next range of :limit records.
SELECT max(number) FROM (SELECT number FROM record WHERE number > :after ORDER BY number LIMIT :limit);

-- name: find_set_aside
SELECT id, damage FROM record WHERE damage IS NOT NULL;

-- name: find_one_set_aside
SELECT number, state FROM record WHERE id = :id AND damage IS NOT NULL AND finished_at IS NOT NULL;

-- name: set_aside
-- Keep what cannot be read. Only replace a queue that is NULL, because the counts need a value.
UPDATE record SET
    state = iif(state IN ('completed', 'cancelled'), state, 'failed'), queue = ifnull(queue, ''), token = NULL,
    lease_end = NULL, cancel_at = 0, behind = NULL,
    suspect = ifnull(recoveries >= max_recoveries, 0), finished_at = :now, forget_at = :now + :keep, updated_at = :now,
    damage = :damage
WHERE number = :number;

-- name: mend_behind
UPDATE OR IGNORE record SET behind = (SELECT holder FROM stranded WHERE stranded.number = record.number)
WHERE number IN (SELECT number FROM stranded);

-- name: find_possibly_damaged_keys
SELECT number, key, id, until FROM unique_key WHERE (
    typeof(key) = 'text' AND typeof(id) = 'text' AND key || id NOT GLOB '*[^ -~]*'
    AND typeof(until) = 'integer' AND until BETWEEN 0 AND :most
) IS NOT TRUE;

-- name: remove_key
DELETE FROM unique_key WHERE number = :number;

-- name: note_damage
UPDATE record SET token = NULL, lease_end = NULL, damage = :damage WHERE number = :number;

-- name: find_possibly_damaged_schedules
SELECT key, queue, next_tick, last_tick, paused, last_record_id, revision FROM schedule
WHERE damage IS NULL AND (
    typeof(key) = 'text' AND typeof(queue) = 'text' AND typeof(last_record_id) IN ('text', 'null')
    AND key || queue || ifnull(last_record_id, '') NOT GLOB '*[^ -~]*'
    AND (next_tick IS NULL OR (typeof(next_tick) = 'integer' AND next_tick BETWEEN 0 AND :most))
    AND (last_tick IS NULL OR (typeof(last_tick) = 'integer' AND last_tick BETWEEN 0 AND :most))
    AND typeof(paused) = 'integer' AND paused BETWEEN 0 AND :most
    AND typeof(revision) = 'integer' AND revision BETWEEN 0 AND :most
) IS NOT TRUE;

-- name: stop_schedule
UPDATE schedule SET next_tick = NULL, damage = :damage WHERE CAST(key AS BLOB) IS CAST(:key AS BLOB);

-- name: forget_damaged_workers
DELETE FROM worker WHERE (
    typeof(id) = 'text' AND id NOT GLOB '*[^ -~]*' AND typeof(waits) = 'integer' AND waits IN (0, 1)
    AND typeof(seen) = 'integer' AND seen BETWEEN 0 AND :most
    AND typeof(sequence) = 'integer' AND typeof(token) IN ('integer', 'null')
    AND typeof(acks) = 'text' AND acks NOT GLOB '*[^odl]*'
) IS NOT TRUE;

-- name: forget_other_stores
DELETE FROM store WHERE only <> 1;

-- name: add_store
INSERT OR IGNORE INTO store (only, token, now, revision) VALUES (1, -1, 0, -1);

-- name: repair_store
-- Later tokens and revisions are greater than the time in microseconds, and than all that are stored.
UPDATE store SET
    token = iif(typeof(token) = 'integer' AND token BETWEEN 0 AND :most, token, max(
        1000 * :now,
        (SELECT ifnull(max(token), 0) FROM record WHERE typeof(token) = 'integer' AND token <= :most),
        (SELECT ifnull(max(settled), 0) FROM record WHERE typeof(settled) = 'integer' AND settled <= :most)
    )),
    now = iif(typeof(now) = 'integer' AND now BETWEEN 0 AND :last, now, :now),
    revision = iif(typeof(revision) = 'integer' AND revision BETWEEN 0 AND :most, revision, max(
        1000 * :now,
        (SELECT ifnull(max(revision), 0) FROM schedule WHERE typeof(revision) = 'integer' AND revision <= :most)
    ))
WHERE (
    typeof(token) = 'integer' AND token BETWEEN 0 AND :most AND typeof(now) = 'integer' AND now BETWEEN 0 AND :last
    AND typeof(revision) = 'integer' AND revision BETWEEN 0 AND :most
) IS NOT TRUE;

-- name: forget_counts
DELETE FROM counts;

-- name: count_again
INSERT INTO counts SELECT ifnull(queue, ''), ifnull(state, ''), count(*) FROM record GROUP BY 1, 2;
