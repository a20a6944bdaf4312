"""Programs that measure Flowli."""
