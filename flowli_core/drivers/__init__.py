"""The stores that Flowli comes with; each is imported by its own path, so that only what is used is loaded."""
