-- The columns are those of `StoredRow`.
SELECT
    id, name, queue, state, input, meta, key, policy, progress, result, recoveries,
    max_recoveries, worker, created_at, updated_at, due, failed_at, started_at, finished_at
FROM stored WHERE number IN (SELECT value FROM json_each(?));
