"""The shapes that a handler may have: any of input, ctx and meta, by name.

Keyword-only protocols, so that the order of a handler's parameters is its own. `R_co` is what calling it gives: a
coroutine where it is async, which `Job` unwraps where it is bound. With shapes for async and plain handlers apart, both
would fit an async one, and where its types hold an Any, mypy answers two fits with Any.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

In_contra = TypeVar("In_contra", contravariant=True)
C_contra = TypeVar("C_contra", contravariant=True)
M_contra = TypeVar("M_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Handler(Protocol[R_co]):
    def __call__(self) -> R_co: ...


class HandlerC(Protocol[C_contra, R_co]):
    def __call__(self, *, ctx: C_contra) -> R_co: ...


class HandlerM(Protocol[M_contra, R_co]):
    def __call__(self, *, meta: M_contra | None) -> R_co: ...


class HandlerCM(Protocol[C_contra, M_contra, R_co]):
    def __call__(self, *, ctx: C_contra, meta: M_contra | None) -> R_co: ...


class HandlerI(Protocol[In_contra, R_co]):
    def __call__(self, *, input: In_contra) -> R_co: ...


class HandlerIC(Protocol[In_contra, C_contra, R_co]):
    def __call__(self, *, input: In_contra, ctx: C_contra) -> R_co: ...


class HandlerIM(Protocol[In_contra, M_contra, R_co]):
    def __call__(self, *, input: In_contra, meta: M_contra | None) -> R_co: ...


class HandlerICM(Protocol[In_contra, C_contra, M_contra, R_co]):
    def __call__(self, *, input: In_contra, ctx: C_contra, meta: M_contra | None) -> R_co: ...
