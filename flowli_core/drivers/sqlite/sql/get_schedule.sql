SELECT key, queue, CAST(spec AS BLOB), next_tick, last_tick, paused, last_record_id, revision FROM schedule WHERE key = ?;
