"""The shapes that a handler may have: any of input, ctx and meta, by name, async or plain.

Keyword-only protocols, so that the order of a handler's parameters is its own. A plain handler may not return an
awaitable; the async shapes are tried first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

In_contra = TypeVar("In_contra", contravariant=True)
C_contra = TypeVar("C_contra", contravariant=True)
M_contra = TypeVar("M_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Async(Protocol[R_co]):
    def __call__(self) -> Awaitable[R_co]: ...


class AsyncC(Protocol[C_contra, R_co]):
    def __call__(self, *, ctx: C_contra) -> Awaitable[R_co]: ...


class AsyncM(Protocol[M_contra, R_co]):
    def __call__(self, *, meta: M_contra | None) -> Awaitable[R_co]: ...


class AsyncCM(Protocol[C_contra, M_contra, R_co]):
    def __call__(self, *, ctx: C_contra, meta: M_contra | None) -> Awaitable[R_co]: ...


class AsyncI(Protocol[In_contra, R_co]):
    def __call__(self, *, input: In_contra) -> Awaitable[R_co]: ...


class AsyncIC(Protocol[In_contra, C_contra, R_co]):
    def __call__(self, *, input: In_contra, ctx: C_contra) -> Awaitable[R_co]: ...


class AsyncIM(Protocol[In_contra, M_contra, R_co]):
    def __call__(self, *, input: In_contra, meta: M_contra | None) -> Awaitable[R_co]: ...


class AsyncICM(Protocol[In_contra, C_contra, M_contra, R_co]):
    def __call__(self, *, input: In_contra, ctx: C_contra, meta: M_contra | None) -> Awaitable[R_co]: ...


class Plain(Protocol[R_co]):
    def __call__(self) -> R_co: ...


class PlainC(Protocol[C_contra, R_co]):
    def __call__(self, *, ctx: C_contra) -> R_co: ...


class PlainM(Protocol[M_contra, R_co]):
    def __call__(self, *, meta: M_contra | None) -> R_co: ...


class PlainCM(Protocol[C_contra, M_contra, R_co]):
    def __call__(self, *, ctx: C_contra, meta: M_contra | None) -> R_co: ...


class PlainI(Protocol[In_contra, R_co]):
    def __call__(self, *, input: In_contra) -> R_co: ...


class PlainIC(Protocol[In_contra, C_contra, R_co]):
    def __call__(self, *, input: In_contra, ctx: C_contra) -> R_co: ...


class PlainIM(Protocol[In_contra, M_contra, R_co]):
    def __call__(self, *, input: In_contra, meta: M_contra | None) -> R_co: ...


class PlainICM(Protocol[In_contra, C_contra, M_contra, R_co]):
    def __call__(self, *, input: In_contra, ctx: C_contra, meta: M_contra | None) -> R_co: ...
