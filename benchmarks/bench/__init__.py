"""Measure Flowli, ideal loops and other job queues on one Redis. `make bench` runs `python -m benchmarks.bench`."""
