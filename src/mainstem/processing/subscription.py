"""A subscription as declared: which source, which group, which handler, under which policies. Frozen data."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mainstem.errors import ConfigError
from mainstem.processing.retry import Retry
from mainstem.stream import EventStream, StreamPattern

Source = EventStream[Any] | StreamPattern[Any]
Middleware = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """Deliver several events at a time: up to `size`, or what came within `max_wait` seconds of the first."""

    size: int
    max_wait: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One handler's place in a group."""

    source: Source
    group: str
    handler: Callable[..., Any]
    name: str
    to: EventStream[Any] | None = None
    batching: Batching | None = None
    concurrency: int = 1
    timeout: float | None = None
    retry: Retry
    start: str = "beginning"
    lease: float = 10.0

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.handler) or inspect.iscoroutinefunction(
            getattr(self.handler, "__call__", None)  # noqa: B004 - a callable object may have an async __call__
        )


def wants_context(handler: Callable[..., Any]) -> bool:
    """Whether the handler takes a second positional parameter; raises `ConfigError` where it cannot take an event."""
    if inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler):
        raise ConfigError(
            f"handler {getattr(handler, '__qualname__', handler)!r} is a generator, which nothing would run: "
            "return the result, or publish results yourself."
        )
    try:
        parameters = list(inspect.signature(handler).parameters.values())
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
    required = [p for p in positional if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    keyword_only = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if not positional or len(required) > 2 or keyword_only:
        raise ConfigError(
            f"handler {getattr(handler, '__qualname__', handler)!r} must take the event, and may take a Context second."
        )
    return len(required) == 2
