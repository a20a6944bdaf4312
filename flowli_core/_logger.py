"""The logger of the library. Its lines show ids, names and errors from the store, which other programs may write."""

import logging

from flowli_core._text import escape_controls


class MultilineText(str):
    """An argument of a log line whose line breaks are not escaped: text of this process, such as a stack."""

    __slots__ = ()


class EscapingFilter(logging.Filter):
    """Escapes the control characters of arguments, so that none can fake another line, whatever formats the line."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Escape the arguments of the line. Never drop a line."""
        if isinstance(record.args, tuple):
            record.args = tuple(map(_escape, record.args))
        return True


def _escape(argument: object) -> object:
    if isinstance(argument, int | float):  # for %d
        return argument
    text = str(argument)
    return text if text.isprintable() else escape_controls(text, lines=isinstance(argument, MultilineText))


logger: logging.Logger = logging.getLogger("flowli")
logger.addFilter(EscapingFilter())
