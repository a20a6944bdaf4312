INSERT INTO record (
    number, id, name, queue, key, state, due, max_recoveries, suspect, keep_completed, keep_failed, created_at, updated_at
) VALUES (?1, ?2, ?3, ?4, ?5, 'waiting', ?6, ?7, 0 >= ?7, ?8, ?9, ?10, ?10);
