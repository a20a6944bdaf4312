-- A page of the suspects of a queue or of the others: due after ?3, and before the place (?4, ?5).
SELECT due, id, number FROM record
WHERE queue = ?1 AND state = 'waiting' AND suspect = ?2 AND due > ?3 AND (due, id) < (?4, ?5)
ORDER BY due DESC, id DESC LIMIT ?6;
