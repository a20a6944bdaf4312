-- Which of these ids are stored already?
SELECT id, state, due, CAST(progress AS BLOB) FROM record WHERE id IN (SELECT value FROM json_each(?));
