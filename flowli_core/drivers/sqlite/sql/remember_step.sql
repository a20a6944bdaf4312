INSERT INTO worker (id, sequence, token, acks, heard) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT DO UPDATE SET sequence = ?2, token = ?3, acks = ?4, heard = ?5;
