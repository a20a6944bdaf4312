"""Writing and reading of everything that is stored as JSON: payloads, policies, progress; and of the trace."""
