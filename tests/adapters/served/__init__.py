"""A small service for real servers, in each framework: see base.py."""
