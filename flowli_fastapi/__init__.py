"""Flowli for fastapi."""
