SELECT sequence, token, acks FROM worker WHERE id = ? AND seen > ?;
