"""All JSON that is stored, and how it is read again: payloads, policies, progress, and the trace before the meta."""
