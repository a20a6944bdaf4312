UPDATE store SET token = token + 1 RETURNING token;
