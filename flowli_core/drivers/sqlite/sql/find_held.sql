-- What is still active under this token; the columns are those of `Due`. Only for a step that is sent again.
SELECT number, due, id, name, queue, suspect, recoveries, progress, input, meta, policy
FROM stored WHERE lease_end IS NOT NULL AND token = ?;
