-- How many wait in a queue and are not yet due, up to a limit?
SELECT count(*) FROM (
    SELECT 1 FROM record WHERE queue = ? AND state = 'waiting' AND suspect IN (0, 1) AND due > ? LIMIT ?
);
