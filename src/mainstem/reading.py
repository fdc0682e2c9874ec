"""Reading a stream without a group: where to start, and an iterator that can say where it stands."""

from __future__ import annotations

import re
import time as clock
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from mainstem.connection import Opened
from mainstem.engine import Cursor, Delivery, Engine, StreamSpec
from mainstem.errors import ConfigError
from mainstem.event import Received
from mainstem.names import seconds

T = TypeVar("T")
Start = str | datetime

_PLACE = re.compile(r"(?:(\d{1,4}):)?(\d[\w.-]*)\Z", re.ASCII)  # a partition, if keyed, and the engine's position
PAGE = 500  # events a request
WAIT = 1.0  # seconds a following read waits in the engine before it asks again


async def cursor_at(engine: Engine, spec: StreamSpec, start: Start) -> Cursor:
    """Where a read starts: "beginning", "end", a position or cursor, a datetime, or an age such as "2h"."""
    stream = spec.name
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise ConfigError(f"start={start.isoformat()} has no time zone: give an aware datetime.")
        return await engine.locate(stream, start.timestamp())
    if start in ("beginning", "end"):
        return await engine.locate(stream, "beginning" if start == "beginning" else "end")
    if "T" in start or " " in start:
        return await engine.locate(stream, _timestamp(start))
    if start[-1:].isalpha():
        return await engine.locate(stream, clock.time() - seconds(start, "start"))
    return parse_cursor(start, spec)


def parse_cursor(text: str, spec: StreamSpec) -> Cursor:
    """Read a position ("17…-0", "3:17…-0") or a cursor (several of them with commas between)."""
    cursor: dict[int, str] = {}
    for piece in text.split(","):
        match = _PLACE.match(piece)
        if match is None:
            raise ConfigError(
                f"start={text!r} is not a place in a stream: give beginning, end, a position, a time "
                "(2026-01-31T09:30:00Z) or an age (2h)."
            )
        if (match[1] is not None) != spec.keyed or int(match[1] or 0) not in spec.parts:
            kind = f"keyed, with partitions 0 to {spec.partitions - 1}" if spec.keyed else "a queue, without partitions"
            raise ConfigError(f"start={text!r} is not a place in stream {spec.name!r}: it is {kind}.")
        cursor[int(match[1] or 0)] = match[2]
    return cursor


def format_cursor(cursor: Cursor, keyed: bool) -> str:
    """The text form of a cursor, which `read(start=...)` takes."""
    return ",".join(f"{part}:{position}" if keyed else position for part, position in sorted(cursor.items()))


def _timestamp(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"start={text!r} is not a time: write it like 2026-01-31T09:30:00Z.") from error
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


class Reading(Generic[T]):
    """An async iterator over a stream. `cursor` is the place behind the last event given out."""

    def __init__(
        self, opening: Callable[[], Awaitable[Opened[T]]], start: Start, limit: int | None, follow: bool
    ) -> None:
        if limit is not None and limit < 0:
            raise ConfigError(f"limit={limit} must be 0 or more.")
        self._opening = opening
        self._start = start
        self._left = limit
        self._follow = follow
        self._opened: Opened[T] | None = None
        self._cursor: dict[int, str] = {}
        self._page: deque[Delivery] = deque()

    @property
    def cursor(self) -> str:
        """Where to read on later: `stream.read(start=reading.cursor)`."""
        if self._opened is None:
            return self._start if isinstance(self._start, str) else self._start.isoformat()
        return format_cursor(self._cursor, self._opened.spec.keyed) or "beginning"

    def __aiter__(self) -> AsyncIterator[Received[T]]:
        return self

    async def __anext__(self) -> Received[T]:
        opened = self._opened or await self._begin()
        if self._left == 0 or not (self._page or await self._turn(opened)):
            raise StopAsyncIteration
        delivery = self._page.popleft()
        self._cursor[delivery.part[1]] = delivery.position
        if self._left is not None:
            self._left -= 1
        return opened.envelope.unpack(delivery, 1)

    async def _begin(self) -> Opened[T]:
        opened = await self._opening()
        cursor = await cursor_at(opened.connection.engine, opened.spec, self._start)
        self._cursor = dict(cursor)
        self._opened = opened
        return opened

    async def _turn(self, opened: Opened[Any]) -> bool:
        limit = PAGE if self._left is None else min(PAGE, self._left)
        while True:
            page = await opened.connection.engine.read(
                opened.spec.name, self._cursor, limit, WAIT if self._follow else 0.0
            )
            self._page.extend(page.deliveries)
            if self._page or not self._follow:
                return bool(self._page)
