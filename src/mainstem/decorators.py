"""The shapes of handlers that `subscribe` and `subscribe_batch` take, for type checkers. No behaviour."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar, overload

from mainstem.event import Received
from mainstem.processing.context import Context

In = TypeVar("In")
Out = TypeVar("Out")


class One(Protocol[In, Out]):
    """Decorates a handler of single events: sync or async, with or without a `Context`."""

    @overload
    def __call__(self, fn: Callable[[Received[In]], Awaitable[Out]], /) -> Callable[[Received[In]], Awaitable[Out]]: ...
    @overload
    def __call__(
        self, fn: Callable[[Received[In], Context], Awaitable[Out]], /
    ) -> Callable[[Received[In], Context], Awaitable[Out]]: ...
    @overload
    def __call__(self, fn: Callable[[Received[In]], Out], /) -> Callable[[Received[In]], Out]: ...
    @overload
    def __call__(self, fn: Callable[[Received[In], Context], Out], /) -> Callable[[Received[In], Context], Out]: ...


class Many(Protocol[In]):
    """Decorates a handler of batches: sync or async, with or without a `Context`."""

    @overload
    def __call__(
        self, fn: Callable[[Sequence[Received[In]]], Awaitable[None]], /
    ) -> Callable[[Sequence[Received[In]]], Awaitable[None]]: ...
    @overload
    def __call__(
        self, fn: Callable[[Sequence[Received[In]], Context], Awaitable[None]], /
    ) -> Callable[[Sequence[Received[In]], Context], Awaitable[None]]: ...
    @overload
    def __call__(self, fn: Callable[[Sequence[Received[In]]], None], /) -> Callable[[Sequence[Received[In]]], None]: ...
    @overload
    def __call__(
        self, fn: Callable[[Sequence[Received[In]], Context], None], /
    ) -> Callable[[Sequence[Received[In]], Context], None]: ...
