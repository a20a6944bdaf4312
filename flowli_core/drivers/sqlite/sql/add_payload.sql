INSERT OR REPLACE INTO payload (number, input, meta, policy) VALUES (?, ?, ?, ?);
