UPDATE record SET state = 'active', token = ?1, lease_end = ?2, worker = ?3, started_at = ?4, updated_at = ?4
WHERE number IN (SELECT value FROM json_each(?5));
