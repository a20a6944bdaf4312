"""The tests of Flowli."""
