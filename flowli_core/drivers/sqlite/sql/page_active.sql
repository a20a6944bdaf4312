-- The pluses keep SQLite from walking all records in the order of their ids: few are active.
SELECT 0, id, number FROM record WHERE lease_end IS NOT NULL AND +id < ? ORDER BY +id DESC LIMIT ?;
