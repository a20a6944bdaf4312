"""Writing and reading of everything that is stored as JSON: payloads, policies, attempts; and of the trace."""
