-- name: find_schedule
SELECT
    key, queue, CAST(ifnull(spec, '') AS BLOB) AS spec, next_tick, last_tick, paused, last_record_id, revision, damage
FROM schedule
WHERE key = :key;

-- name: find_due_schedules
SELECT
    key, queue, CAST(ifnull(spec, '') AS BLOB) AS spec, next_tick, last_tick, paused, last_record_id, revision, damage
FROM schedule
WHERE next_tick <= :now AND damage IS NULL ORDER BY next_tick, key LIMIT :limit;

-- name: page_schedules
SELECT
    key, queue, CAST(ifnull(spec, '') AS BLOB) AS spec, next_tick, last_tick, paused, last_record_id, revision, damage
FROM schedule
WHERE key > :after ORDER BY key;

-- name: next_revision
-- Greater than the one that the caller knows, and at least the time in microseconds, as for a token.
UPDATE store SET revision = max(revision + 1, :known + 1, 1000 * :now) WHERE typeof(revision) = 'integer' RETURNING revision;

-- name: put_schedule
INSERT OR REPLACE INTO schedule (key, queue, spec, next_tick, last_tick, paused, last_record_id, revision)
VALUES (:key, :queue, :spec, :next_tick, :last_tick, :paused, :last_record_id, :revision);

-- name: remove_schedule
DELETE FROM schedule WHERE key = :key;
