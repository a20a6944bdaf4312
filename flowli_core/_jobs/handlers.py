"""The shapes that a handler may have: any of `input`, `ctx` and `meta`, by name.

The protocols are keyword-only, so a handler may order its parameters freely. `R_co` is what a call of the handler
returns: for an async handler a coroutine, which `Job` unwraps when it is bound. Separate protocols for async and plain
handlers would both match an async one; mypy then infers Any if the types of the handler hold an Any.
"""

from typing import Protocol, TypeVar

In_contra = TypeVar("In_contra", contravariant=True)
C_contra = TypeVar("C_contra", contravariant=True)
M_contra = TypeVar("M_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class TakesNothing(Protocol[R_co]):
    """A handler without parameters."""

    def __call__(self) -> R_co: ...


class TakesContext(Protocol[C_contra, R_co]):
    """A handler that takes `ctx`."""

    def __call__(self, *, ctx: C_contra) -> R_co: ...


class TakesMeta(Protocol[M_contra, R_co]):
    """A handler that takes `meta`."""

    def __call__(self, *, meta: M_contra | None) -> R_co: ...


class TakesContextMeta(Protocol[C_contra, M_contra, R_co]):
    """A handler that takes `ctx` and `meta`."""

    def __call__(self, *, ctx: C_contra, meta: M_contra | None) -> R_co: ...


class TakesInput(Protocol[In_contra, R_co]):
    """A handler that takes `input`."""

    def __call__(self, *, input: In_contra) -> R_co: ...


class TakesInputContext(Protocol[In_contra, C_contra, R_co]):
    """A handler that takes `input` and `ctx`."""

    def __call__(self, *, input: In_contra, ctx: C_contra) -> R_co: ...


class TakesInputMeta(Protocol[In_contra, M_contra, R_co]):
    """A handler that takes `input` and `meta`."""

    def __call__(self, *, input: In_contra, meta: M_contra | None) -> R_co: ...


class TakesInputContextMeta(Protocol[In_contra, C_contra, M_contra, R_co]):
    """A handler that takes `input`, `ctx` and `meta`."""

    def __call__(self, *, input: In_contra, ctx: C_contra, meta: M_contra | None) -> R_co: ...
