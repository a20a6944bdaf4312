"""Flowli for starlette."""
