UPDATE worker SET seen = ? WHERE id = ?;
