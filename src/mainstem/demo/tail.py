"""Reading a stream's new events to the end of a run, however often the server goes away meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from mainstem.engine import Engine
from mainstem.errors import DecodeError, Unavailable
from mainstem.event import Received
from mainstem.processing.tasks import cancel_all
from mainstem.reading import Reading, format_cursor
from mainstem.stream import EventStream

PAUSE = 0.2  # seconds before a server that is away is asked again


class Tail:
    """Calls `on_event` with each event that is stored from now on, in order per partition, without a group.

    `async with`: it reads in `task` meanwhile.
    """

    task: asyncio.Task[None]

    def __init__(self, engine: Engine, stream: EventStream[Any], on_event: Callable[[Received[Any]], None]) -> None:
        self._engine = engine
        self._stream = stream
        self._on_event = on_event

    async def __aenter__(self) -> Self:
        opened = await self._stream.open()
        end = await self._engine.locate(self._stream.name, "end")
        self._reading = self._stream.read(start=format_cursor(end, opened.spec.keyed), follow=True)
        self.task = asyncio.create_task(self._follow(self._reading), name=f"demo-tail-{self._stream.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await cancel_all([self.task])

    async def finish(self) -> None:
        """Read what is left up to the present end."""
        await cancel_all([self.task])
        await self._follow(self._stream.read(start=self._reading.cursor))

    async def _follow(self, reading: Reading[Any]) -> None:
        while True:
            try:
                async for event in reading:
                    self._on_event(event)
                return
            except DecodeError:
                continue  # of another program; reading goes on behind it
            except Unavailable:
                await asyncio.sleep(PAUSE)
