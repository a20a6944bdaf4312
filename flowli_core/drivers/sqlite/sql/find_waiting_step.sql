SELECT waiting_sequence, waiting_token, '' FROM worker WHERE id = ? AND seen > ?;
