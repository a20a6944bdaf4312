UPDATE store SET now = ?;
