-- The leases that have ended, the first first; the columns are those of `Row`.
SELECT
    number, id, name, queue, key, state, due, token, settled, cancel_requested, recoveries, max_recoveries,
    keep_completed, keep_failed
FROM record WHERE lease_end <= ? ORDER BY lease_end, id LIMIT ?;
