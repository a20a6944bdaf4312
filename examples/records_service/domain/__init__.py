"""The service itself, independent of the web framework."""
