"""What holds of every refusal: it is an error of ours that says what is wrong and what would be right, and no more."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from flowli_core import FlowliError

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "hunter2-5b1e"  # noqa: S105 - a mark to look for, in inputs that are refused
LONGEST_MESSAGE = 1_000


@dataclass(frozen=True)
class Refused:
    """A bad input: the number of its case in FAULTS.md, what it is, what to do, and what its error must say."""

    case: int | str
    what: str
    do: Callable[[Any], Any]
    error: type[FlowliError]
    says: tuple[str, ...]


def table(*rows: Refused) -> pytest.MarkDecorator:
    """Run a test with each row, under an id such as `case 27: a negative delay`."""
    return pytest.mark.parametrize("row", rows, ids=[f"case {row.case}: {row.what}" for row in rows])


def assert_told(error: BaseException, kind: type[FlowliError], *says: str) -> None:
    """Check an error: its class, its words, and that nothing of the payload is in it or in what it was raised from."""
    assert type(error) is kind, f"{type(error).__name__}: {error}"
    for part in says:
        assert part in str(error), f"{part!r} is not in {str(error)!r}"
    for told in chain(error):
        assert SECRET not in f"{told} {told!r}"
        assert len(str(told)) <= LONGEST_MESSAGE
    assert SECRET not in "".join(traceback.format_exception(error))


def refuse(row: Refused, given: object = None) -> None:
    """Do what must be refused at once."""
    with pytest.raises(FlowliError) as caught:
        row.do(given)
    assert_told(caught.value, row.error, *row.says)


async def refuse_call(row: Refused, given: object) -> None:
    """Do what must be refused, where that is to be awaited."""
    with pytest.raises(FlowliError) as caught:
        await row.do(given)
    assert_told(caught.value, row.error, *row.says)


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from, as far as a traceback shows that."""
    told: BaseException | None = error
    while told is not None:
        yield told
        told = told.__cause__ or (None if told.__suppress_context__ else told.__context__)
