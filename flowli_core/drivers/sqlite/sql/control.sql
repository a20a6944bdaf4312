-- name: renew_leases
-- Extend the leases whose [id, token] is current and that the worker holds, and return which those are.
UPDATE record SET lease_end = :lease_end
WHERE lease_end IS NOT NULL
    AND worker = :worker
    AND id IN (SELECT json_extract(value, '$[0]') FROM json_each(:leases))
    AND (id, token) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:leases))
RETURNING id, token, cancel_at;

-- name: request_cancel
UPDATE record SET cancel_at = 1 WHERE number = :number;

-- name: forget_progress
DELETE FROM progress WHERE number = :number;

-- name: forget_recoveries
UPDATE record SET recovered_token = NULL, taken_back = 0 WHERE number = :number;

-- name: is_key_held
-- If another record, unfinished or completed, holds the key.
SELECT 1 FROM record WHERE key = :key AND number <> :number AND key IS NOT NULL AND finished_at IS NULL
UNION ALL SELECT 1 FROM unique_key WHERE key = :key AND id <> :id AND until > :now AND until <= 1 << 60;

-- name: forget_key
DELETE FROM unique_key WHERE key = :key;

-- name: drop_damaged_pauses
DELETE FROM paused_queue WHERE typeof(queue) <> 'text' OR typeof(since) <> 'integer' OR since NOT BETWEEN 0 AND 1e14;

-- name: pause_queue
INSERT INTO paused_queue (queue, since) VALUES (:queue, :now) ON CONFLICT DO NOTHING;

-- name: count_paused
SELECT count(*) FROM paused_queue;

-- name: resume_queue
DELETE FROM paused_queue WHERE queue = :queue;

-- name: purge
DELETE FROM record WHERE number IN (
    SELECT number FROM record WHERE state = :state AND finished_at < :before ORDER BY finished_at, id LIMIT :limit
);

-- name: purge_ids
-- The plus keeps SQLite from walking all records in the state.
DELETE FROM record WHERE number IN (
    SELECT number FROM record
    WHERE id IN (SELECT value FROM json_each(:ids)) AND +state = :state AND finished_at < :before
    ORDER BY finished_at, id LIMIT :limit
);
