"""Typed background jobs for ASGI backends."""
