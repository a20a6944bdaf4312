"""Jobs as a user sees them: declared, bound to a registry and its context, called, inspected and controlled."""
