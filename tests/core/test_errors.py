"""The classes of errors, and the tree of them in the docstring of the module."""

import re

import pytest

from flowli_core import (
    Abort,
    DefinitionError,
    DriverError,
    FlowliError,
    Issue,
    JobCancelled,
    JobFailed,
    JobTimeout,
    LeaseLost,
    OutboxUnavailable,
    RecordNotFound,
    RetryAfter,
    SchedulingError,
    StoreDamaged,
    StoreUnavailable,
    StrategyError,
    ValidationError,
    errors,
)

TREE: dict[type[BaseException], type[BaseException]] = {
    FlowliError: Exception,
    DefinitionError: FlowliError,
    ValidationError: FlowliError,
    StrategyError: FlowliError,
    SchedulingError: FlowliError,
    RecordNotFound: FlowliError,
    JobFailed: FlowliError,
    JobCancelled: FlowliError,
    OutboxUnavailable: FlowliError,
    DriverError: FlowliError,
    StoreUnavailable: DriverError,
    StoreDamaged: DriverError,
    LeaseLost: DriverError,
}


@pytest.mark.parametrize("error", TREE, ids=lambda error: str(error.__name__))
def test_an_error_has_the_base_that_the_tree_says(error: type[BaseException]) -> None:
    assert error.__bases__ == (TREE[error],)
    assert error.__doc__


def test_the_docstring_draws_the_tree() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"^([│├└─ ]*)([A-Z]\w+)(?:\s{2,}|$)", line):
            depth = len(found[1]) // 4
            del path[depth:]
            drawn[found[2]] = path[-1] if path else "Exception"
            path.append(found[2])
    assert drawn == {error.__name__: base.__name__ for error, base in TREE.items()}
    defined = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert defined == set(drawn)


@pytest.mark.parametrize("raised", [Abort("why"), RetryAfter("1s"), JobTimeout("slow")])
def test_the_exceptions_of_handlers_are_no_flowli_errors(raised: Exception) -> None:
    assert not isinstance(raised, FlowliError)


def test_a_job_timeout_is_a_timeout_error() -> None:
    assert issubclass(JobTimeout, TimeoutError)


def test_a_validation_error_has_its_issues_and_a_driver_error_its_ids() -> None:
    issue = Issue("to.0", "Field required")
    assert str(issue) == "to.0: Field required"
    assert str(Issue("", "it is too large")) == "it is too large"
    assert ValidationError("wrong", [issue]).issues == (issue,)
    assert ValidationError("wrong").issues == ()
    assert StoreUnavailable("gone", ids=["a", "b"]).ids == ("a", "b")
    assert str(DriverError("gone")) == "gone"
    assert DriverError("gone").ids == ()
