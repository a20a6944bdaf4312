-- Remove what has been kept for its time.
DELETE FROM record WHERE number IN (SELECT number FROM record WHERE forget_at <= ? ORDER BY forget_at LIMIT ?);
