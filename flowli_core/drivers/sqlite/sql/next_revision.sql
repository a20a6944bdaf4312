UPDATE store SET revision = revision + 1 RETURNING revision;
