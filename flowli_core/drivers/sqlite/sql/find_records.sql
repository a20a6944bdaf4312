-- What a transition must know of these records; the columns are those of `Row`.
SELECT
    number, id, name, queue, key, state, due, token, settled, cancel_requested, recoveries, max_recoveries,
    keep_completed, keep_failed
FROM record WHERE id IN (SELECT value FROM json_each(?));
