"""Checks of errors: each is a FlowliError that names the fault and the cure, and never shows a payload."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core import FlowliError

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "hunter2-5b1e"  # noqa: S105 - put into refused inputs; no error may contain it
LONGEST_MESSAGE = 1_000


@dataclass(frozen=True)
class Refused:
    """An invalid input: a number and a description for the test id, the call to make, and its error."""

    case: int | str
    what: str
    do: Callable[[Any], Any]
    error: type[FlowliError]
    says: tuple[str, ...]


def table(*rows: Refused) -> pytest.MarkDecorator:
    """Run a test with each row. Its id is like `case 27: a negative delay`."""
    return pytest.mark.parametrize("row", rows, ids=[f"case {row.case}: {row.what}" for row in rows])


def assert_error(error: BaseException, kind: type[FlowliError], *says: str) -> None:
    """Check the class and the words of an error, and that neither it nor its causes contain the payload."""
    assert type(error) is kind, f"{type(error).__name__}: {error}"
    for part in says:
        assert part in str(error), f"{part!r} is not in {str(error)!r}"
    for shown in chain(error):
        assert SECRET not in f"{shown} {shown!r}"
        assert len(str(shown)) <= LONGEST_MESSAGE
    assert SECRET not in "".join(traceback.format_exception(error))


def refuse(row: Refused, given: object = None) -> None:
    """Make a call that must be refused."""
    with pytest.raises(FlowliError) as caught:
        row.do(given)
    assert_error(caught.value, row.error, *row.says)


async def refuse_call(row: Refused, given: object) -> None:
    """Await a call that must be refused."""
    with pytest.raises(FlowliError) as caught:
        await row.do(given)
    assert_error(caught.value, row.error, *row.says)


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors that it was raised from, as a traceback shows them."""
    shown: BaseException | None = error
    while shown is not None:
        yield shown
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
