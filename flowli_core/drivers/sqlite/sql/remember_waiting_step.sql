INSERT INTO worker (id, waiting_sequence, waiting_token, seen) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT DO UPDATE SET waiting_sequence = ?2, waiting_token = ?3, seen = ?4;
