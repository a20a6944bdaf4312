-- Which of these keys do unfinished records hold?
SELECT key, id, state, due, CAST(progress AS BLOB) FROM record
WHERE key IN (SELECT value FROM json_each(?)) AND key IS NOT NULL AND finished_at IS NULL;
