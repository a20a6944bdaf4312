-- name: find_ids
-- Those of these ids that are stored.
SELECT id, state, iif(damage IS NULL, due, finished_at), substr(CAST(attempts AS BLOB), 1, :cut) FROM record
WHERE id IN (SELECT value FROM json_each(:ids));

-- name: find_taken_ids
-- Those of these ids that are taken although their records were removed.
SELECT id, state FROM taken_id WHERE id IN (SELECT value FROM json_each(:ids)) AND until > :now
    AND state IN ('completed', 'failed', 'cancelled');

-- name: find_key_holders
-- The unfinished records with one of these keys. Of two with the same key, the one behind the other holds it: the last.
SELECT
    key, number, CAST(ifnull(created_at, 0) AS INTEGER), behind, id, state, due,
    substr(CAST(attempts AS BLOB), 1, :cut)
FROM record WHERE key IN (SELECT value FROM json_each(:keys)) AND key IS NOT NULL AND finished_at IS NULL
ORDER BY behind IS NOT NULL;

-- name: find_kept_keys
-- Those of these keys that completed records keep. The records may have been removed.
SELECT
    unique_key.key, ifnull(record.number, 0), 0, NULL, unique_key.id, 'completed',
    ifnull(iif(damage IS NULL, due, finished_at), :now), substr(CAST(attempts AS BLOB), 1, :cut)
FROM unique_key
LEFT JOIN record ON record.id = unique_key.id AND state = 'completed' AND record.key = unique_key.key
WHERE unique_key.key IN (SELECT value FROM json_each(:keys)) AND until > :now AND until <= 1 << 60;

-- name: remove_replaced
DELETE FROM record WHERE number = :number RETURNING lane, queue, behind;

-- name: find_last_number
-- The numbers of an enqueue continue from here; only one connection writes at a time.
SELECT coalesce(max(number), 0) FROM record WHERE number < 1 << 60;

-- name: add_record
-- One without a lane and without a key that it keeps or waits for.
INSERT INTO record (
    number, id, name, queue, key, state, due, cancel_at, max_recoveries, suspect, keep_completed, keep_failed, keep_id,
    created_at, updated_at
) VALUES (
    :number, :id, :name, :queue, :key, 'waiting', :due, :cancel_at, :max_recoveries, 0 >= :max_recoveries,
    :keep_completed, :keep_failed, :keep_id, :now, :now
);

-- name: add_record_with_options
INSERT INTO record (
    number, id, name, queue, key, behind, lane, unique_until, state, due, cancel_at, max_recoveries, suspect, keep_completed,
    keep_failed, keep_id, created_at, updated_at
) VALUES (
    :number, :id, :name, :queue, :key, :behind, :lane, :unique_until, 'waiting', :due, :cancel_at, :max_recoveries,
    0 >= :max_recoveries, :keep_completed, :keep_failed, :keep_id, :created_at, :now
);

-- name: add_payload
INSERT OR REPLACE INTO payload (number, input, meta, policy) VALUES (:number, :input, :meta, :policy);
