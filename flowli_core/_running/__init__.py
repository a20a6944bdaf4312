"""Running jobs: the runner, one run of it, and the parts of a run, each in a file."""
