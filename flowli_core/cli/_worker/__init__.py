"""`flowli worker`: its options, one worker process, the parent of several, and the health endpoint."""
