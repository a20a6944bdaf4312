-- What is due in a queue, among its suspects or among the others; the columns are those of `Due`.
SELECT number, due, id, name, queue, suspect, recoveries, progress, input, meta, policy
FROM stored WHERE queue = ? AND state = 'waiting' AND suspect = ? AND due <= ? ORDER BY due, id LIMIT ?;
