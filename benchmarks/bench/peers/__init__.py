"""The programs that are measured, each run in a process and an environment of its own."""
