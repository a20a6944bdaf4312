-- The clock was set back from ?2 to ?1: what was due stays so.
UPDATE record SET due = ?1
WHERE queue IN (SELECT queue FROM counts WHERE state = 'waiting' AND n > 0)
    AND state = 'waiting' AND suspect IN (0, 1) AND due > ?1 AND due <= ?2;
