INSERT INTO worker (id, sequence, token, seen, acks) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT DO UPDATE SET sequence = ?2, token = ?3, seen = ?4, acks = ?5;
