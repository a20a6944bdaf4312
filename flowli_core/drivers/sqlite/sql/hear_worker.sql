UPDATE worker SET heard = ? WHERE id = ?;
