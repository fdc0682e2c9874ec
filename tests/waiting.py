"""Waiting for something to become true, with a deadline. Tests never sleep for a fixed time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def wait_until(condition: Callable[[], T | Awaitable[T]], timeout: float = 5.0, every: float = 0.01) -> T:
    """The first true value of `condition`, sync or async; fails with its last value after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        value: T = await found if inspect.isawaitable(found) else found
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not true after {timeout} s: {_told(condition)} is still {value!r}")
        await asyncio.sleep(every)


def wait_blocking(condition: Callable[[], T], timeout: float = 5.0, every: float = 0.01) -> T:
    """The same for code that runs no event loop."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not true after {timeout} s: {_told(condition)} is still {value!r}")
        time.sleep(every)
    return value


def _told(condition: Callable[[], object]) -> str:
    try:
        return inspect.getsource(condition).strip()
    except (OSError, TypeError):
        return repr(condition)
