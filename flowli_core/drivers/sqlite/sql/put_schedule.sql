INSERT INTO schedule (key, queue, spec, next_tick, last_tick, paused, last_record_id, revision)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
ON CONFLICT DO UPDATE SET queue = ?2, spec = ?3, next_tick = ?4, last_tick = ?5, paused = ?6, last_record_id = ?7, revision = ?8;
