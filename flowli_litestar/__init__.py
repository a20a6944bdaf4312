"""Flowli for litestar."""
