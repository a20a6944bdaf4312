-- Remove the oldest that finished in this state.
DELETE FROM record WHERE number IN (
    SELECT number FROM record WHERE state = ? AND finished_at IS NOT NULL ORDER BY finished_at, id LIMIT ?
);
