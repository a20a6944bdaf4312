"""The core, on the memory driver."""
