"""`app.testing()`: the app on the memory engine inside a test. Publish, wait until quiet, look at what was handled."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Protocol, Self

from mainstem.connection import Connection
from mainstem.engine import DeadLetter, Engine
from mainstem.event import Received
from mainstem.hooks import DeadLetterDetail
from mainstem.opening import open_engine
from mainstem.processing.subscription import Subscription
from mainstem.stream import EventStream

QUIET = 10.0  # seconds that `quiet` waits at most


class Testable(Protocol):
    """What a trial needs of an app."""

    @property
    def subscriptions(self) -> tuple[Subscription, ...]: ...
    def connection(self) -> Connection: ...
    async def open(self, engine: Engine | None = None) -> None: ...
    async def close(self) -> None: ...
    async def serve(self, stop: asyncio.Event) -> int: ...


class Trial:
    """A running app. Made by `Mainstem.testing`; use it as `async with app.testing() as trial`."""

    def __init__(self, app: Testable) -> None:
        self._app = app
        self._stop = asyncio.Event()
        self._serving: asyncio.Task[int] | None = None
        self.dead: list[DeadLetterDetail] = []

    async def __aenter__(self) -> Self:
        await self._app.open(await open_engine("memory://"))
        self._app.connection().hooks.add(self)
        if self._app.subscriptions:
            self._serving = asyncio.create_task(self._app.serve(self._stop))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        try:
            if self._serving is not None:
                await self._serving
        finally:
            self._app.connection().hooks.remove(self)
            await self._app.close()

    def on_dead_letter(self, detail: DeadLetterDetail, /) -> None:
        """Hook: remembers what was given up."""
        self.dead.append(detail)

    async def publish(self, stream: EventStream[Any], *data: Any, key: str | None = None) -> list[str]:
        """Publish each of `data`; returns the positions."""
        return [await stream.publish(one, key=key) for one in data]

    async def quiet(self, timeout: float = QUIET) -> None:
        """Wait until every group has settled everything; raises `TimeoutError` naming what is left."""
        until = asyncio.get_running_loop().time() + timeout
        while left := await self._left():
            if self._serving is not None and self._serving.done():
                self._serving.result()
            if asyncio.get_running_loop().time() > until:
                raise TimeoutError(f"not quiet after {timeout:g} s: {'; '.join(left)}")
            await asyncio.sleep(0.01)

    async def events(self, stream: EventStream[Any]) -> list[Received[Any]]:
        """Everything in a stream, oldest first per partition."""
        return [event async for event in stream.read()]

    async def dead_letters(self, stream: EventStream[Any], group: str) -> list[DeadLetter]:
        """A group's dead letters."""
        ability = self._app.connection().engine.can.dead
        assert ability is not None, "the memory engine has dead letters"
        return list(await ability.dead(stream.name, group, "", 10_000))

    async def _left(self) -> list[str]:
        engine = self._app.connection().engine
        left: list[str] = []
        for sub in self._app.subscriptions:
            for name in await sub.source.resolve():
                group = next((g for g in (await engine.describe(name)).groups if g.name == sub.group), None)
                if group is None:
                    left.append(f"group {sub.group} of {name} has not begun")
                elif group.lag or group.pending:
                    left.append(f"group {sub.group} of {name}: {group.lag} to come, {group.pending} in hand")
        return left
