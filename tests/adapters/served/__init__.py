"""A small service under a real server, in each framework: see base.py for what it does."""
