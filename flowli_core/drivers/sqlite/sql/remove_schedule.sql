DELETE FROM schedule WHERE key = ?;
