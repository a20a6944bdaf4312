"""The figures of the long tests: one line for each, shown together at the end of the test run."""

lines: list[str] = []


def note_figures(line: str) -> None:
    """Show a line at the end of the test run."""
    lines.append(line)
