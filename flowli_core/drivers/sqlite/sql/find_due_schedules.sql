-- The schedules whose next tick has come, the earliest first.
SELECT key, queue, CAST(spec AS BLOB), next_tick, last_tick, paused, last_record_id, revision FROM schedule
WHERE next_tick IS NOT NULL AND next_tick <= ? ORDER BY next_tick, key LIMIT ?;
