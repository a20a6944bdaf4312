-- Remove the oldest that finished in this state before a time.
DELETE FROM record WHERE number IN (
    SELECT number FROM record WHERE state = ? AND finished_at < ? ORDER BY finished_at, id LIMIT ?
);
