"""Small ways of owning tasks: none is left behind, no failure is silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any


async def until_stop_or_failure(stop: asyncio.Event, tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Wait for `stop`; if one of the tasks ends before, raise what ended it."""
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    for task in done:
        if task is not stopping:
            task.result()


def cancelled_from_outside(error: BaseException) -> bool:
    """Whether someone cancelled the running task; else a `CancelledError` is the handler's own failure."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.gather(*tasks, return_exceptions=True)


async def wait_until(condition: Callable[[], bool], deadline: float, every: float = 0.01) -> bool:
    """Wait for a condition until a monotonic deadline; returns whether it came true."""
    while not condition():
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(every)
    return True
