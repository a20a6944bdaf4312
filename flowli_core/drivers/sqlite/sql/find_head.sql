-- The first to be due after a time, among the suspects of a queue or among the others. The last two columns change with
-- each delivery, so that a record that was given back is not taken for one that was there all the time.
SELECT due, id, settled, recoveries FROM record
WHERE queue = ? AND state = 'waiting' AND suspect = ? AND due > ? ORDER BY due, id LIMIT 1;
