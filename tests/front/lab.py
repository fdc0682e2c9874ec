"""Serving an app inside a test, and looking at what became of its events. Nothing here asserts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from mainstem import EventStream, Mainstem
from mainstem.causes import Cause
from mainstem.engine import DeadLetter, GroupInfo
from waiting import wait_until


class Served:
    """A running app."""

    def __init__(self, app: Mainstem) -> None:
        self.app = app
        self.stop = asyncio.Event()
        self.task: asyncio.Task[int] = asyncio.create_task(app.serve(self.stop))

    async def end(self) -> int:
        """Drain; how many events were released."""
        self.stop.set()
        return await self.task

    async def quiet(self, stream: EventStream[Any], group: str, timeout: float = 10.0) -> GroupInfo:
        """Wait until the group has settled everything in the stream."""

        async def settled() -> GroupInfo | None:
            if self.task.done():
                self.task.result()
            found = await standing(stream, group)
            return found if found is not None and not found.lag and not found.pending else None

        found = await wait_until(settled, timeout)
        assert found is not None
        return found


@asynccontextmanager
async def served(app: Mainstem) -> AsyncIterator[Served]:
    """Open the app and serve it; drains at the end unless the test did."""
    async with app:
        running = Served(app)
        try:
            yield running
        finally:
            running.stop.set()
            await running.task


async def standing(stream: EventStream[Any], group: str) -> GroupInfo | None:
    """Where a group stands."""
    return next((each for each in (await stream.describe()).groups if each.name == group), None)


async def dead_letters(stream: EventStream[Any], group: str) -> list[DeadLetter]:
    """A group's dead letters, oldest first."""
    opened = await stream.open()
    ability = opened.connection.engine.can.dead
    assert ability is not None
    return list(await ability.dead(stream.name, group, "", 1000))


def cause_of(letter: DeadLetter) -> Cause:
    """Why it was given up."""
    return msgspec.json.decode(letter.cause, type=Cause)
