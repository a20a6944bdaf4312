"""A page in a real browser that follows a job of a real server."""
