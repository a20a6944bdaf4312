-- name: find_stored
-- Damaged data may have any length. A payload that is longer than :longest is left out, and what is stored beside it is cut:
-- only if it is longer, because SQLite makes NULL of a part of an empty value.
SELECT
    id, name, queue, state, iif(NOT :payloads OR size > :longest, x'', input) AS input,
    iif(NOT :payloads OR size > :longest, NULL, meta) AS meta, key, iif(size > :longest, x'', policy) AS policy,
    iif(length(attempts) > :cut, substr(attempts, 1, :cut), attempts) AS attempts, lane,
    iif(NOT :results, NULL, iif(length(result) > :cut, substr(result, 1, :cut), result)) AS result, recoveries,
    max_recoveries, worker, created_at, updated_at, due, failed_at, started_at, finished_at, token, settled, lease_end,
    cancel_at, suspect, keep_completed, keep_failed, keep_id, unique_until, forget_at, damage, size,
    (SELECT substr(CAST(progress AS BLOB), 1, :cut) FROM progress WHERE progress.number = stored.number) AS progress,
    iif(:log, (SELECT substr(CAST(lines AS BLOB), 1, :cut) FROM log WHERE log.number = stored.number), NULL) AS log
FROM stored LEFT JOIN (
    SELECT number, ifnull(length(input), 0) + ifnull(length(meta), 0) + ifnull(length(policy), 0) AS size FROM payload
) AS sizes ON sizes.number = stored.number
WHERE id IN (SELECT value FROM json_each(:ids));

-- name: find_versions
-- These differ after each change of a record.
SELECT
    id, number, state, token, settled, due, created_at, updated_at,
    (SELECT progress FROM progress WHERE progress.number = record.number),
    (SELECT token || ' ' || count FROM log WHERE log.number = record.number)
FROM record WHERE id IN (SELECT value FROM json_each(:ids));

-- name: find_latest_due
-- The queues, or the one of :queue, with records that are due after :after and not after :time. Each has its suspects,
-- its other records, and those that are in no order (suspect: NULL) apart: the one with the latest due time first.
SELECT queue, suspect, latest FROM (
    SELECT counts.queue, is_suspect.value AS suspect, (
        SELECT due FROM record
        WHERE queue = counts.queue AND state = 'waiting' AND apart = 0 AND suspect = is_suspect.value
            AND due > :after AND due <= :time
        ORDER BY due DESC LIMIT 1
    ) AS latest
    FROM counts, json_each('[0, 1]') AS is_suspect
    WHERE counts.state = 'waiting' AND counts.n > 0 AND (:queue IS NULL OR counts.queue = :queue)
    UNION ALL
    SELECT counts.queue, NULL, (
        SELECT due FROM record
        WHERE queue = counts.queue AND state = 'waiting' AND apart = 1 AND due > :after AND due <= :time
        ORDER BY due DESC LIMIT 1
    )
    FROM counts WHERE counts.state = 'waiting' AND counts.n > 0 AND (:queue IS NULL OR counts.queue = :queue)
)
WHERE latest IS NOT NULL ORDER BY latest DESC;

-- name: page_waiting
-- The suspects of a queue, or its other records, that are due after :after and before the position (:time, :id).
SELECT due, id FROM record
WHERE queue = :queue AND state = 'waiting' AND apart = 0 AND suspect = :suspect AND due > :after
    AND (due, id) < (:time, :id)
ORDER BY due DESC, id DESC;

-- name: page_apart
-- The records of a queue that are in no order, as in page_waiting.
SELECT due, id FROM record
WHERE queue = :queue AND state = 'waiting' AND apart = 1 AND due > :after AND (due, id) < (:time, :id)
ORDER BY due DESC, id DESC;

-- name: page_active
-- The pluses keep SQLite from walking all records in the order of their ids: few are active.
SELECT 0, id FROM record WHERE lease_end IS NOT NULL AND +id < :id ORDER BY +id DESC;

-- name: page_finished
SELECT finished_at, id FROM record
WHERE state = :state AND finished_at IS NOT NULL AND (finished_at, id) < (:time, :id)
ORDER BY finished_at DESC, id DESC;

-- name: match
-- For each id in order: if the record matches the filters, and the size of what was read for that. A cross join reads the
-- records in this order, and one that is ordered by it would read all of them first.
SELECT
    ids.value,
    (:name IS NULL OR name = :name)
        AND (:queue IS NULL OR queue = :queue)
        AND (:before IS NULL OR state <> 'active' OR started_at < :before)
        AND (:hold IS NULL OR instr(CAST(attempts AS BLOB), :hold) > 0),
    iif(:hold IS NULL, 0, ifnull(length(CAST(attempts AS BLOB)), 0))
FROM json_each(:ids) AS ids CROSS JOIN record ON record.id = ids.value;

-- name: read_counts
SELECT queue, state, n FROM counts WHERE n > 0;

-- name: count_waiting
-- The number of scheduled records of each queue with waiting ones, and the first due times, of its suspects and of its other
-- records.
SELECT
    queue,
    (SELECT count(*) FROM record
        WHERE queue = counts.queue AND state = 'waiting' AND apart = 0 AND suspect IN (0, 1) AND due > :now)
    + (SELECT count(*) FROM record
        WHERE queue = counts.queue AND state = 'waiting' AND apart = 1 AND due > :now),
    (SELECT due FROM record
        WHERE queue = counts.queue AND state = 'waiting' AND apart = 0 AND suspect = 0 AND due > -1 AND due <= :now
        ORDER BY due LIMIT 1),
    (SELECT due FROM record
        WHERE queue = counts.queue AND state = 'waiting' AND apart = 0 AND suspect = 1 AND due > -1 AND due <= :now
        ORDER BY due LIMIT 1),
    (SELECT due FROM record
        WHERE queue = counts.queue AND state = 'waiting' AND apart = 1 AND behind IS NULL AND due > -1 AND due <= :now
        ORDER BY due LIMIT 1)
FROM counts WHERE state = 'waiting' AND n > 0;

-- name: read_paused
-- A time that is damaged pauses nothing.
SELECT queue, since FROM paused_queue WHERE since BETWEEN 0 AND 1e14;

-- name: find_workers
SELECT id, max(seen), max(about) FROM worker WHERE seen > :since GROUP BY id;

-- name: count_stranded
SELECT count(*) FROM stranded;

-- name: count_wrong_counts
SELECT count(*) FROM (
    SELECT queue, state, sum(n) AS n FROM (
        SELECT queue, state, n FROM counts
        UNION ALL SELECT ifnull(queue, ''), ifnull(state, ''), -count(*) FROM record GROUP BY 1, 2
    ) GROUP BY queue, state
) WHERE n <> 0 OR EXISTS (SELECT 1 FROM counts WHERE typeof(n) <> 'integer');
