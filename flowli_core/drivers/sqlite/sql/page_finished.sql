SELECT finished_at, id, number FROM record
WHERE state = ?1 AND finished_at IS NOT NULL AND (finished_at, id) < (?2, ?3)
ORDER BY finished_at DESC, id DESC LIMIT ?4;
