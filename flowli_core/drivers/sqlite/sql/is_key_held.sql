SELECT 1 FROM record WHERE key = ? AND number <> ? AND key IS NOT NULL AND finished_at IS NULL;
