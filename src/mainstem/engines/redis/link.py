"""
One connection that comes back: whoever needs it asks ``Link.get`` each time, and gets the live one or the next one.

It decides when to connect again and tells what happened to the connection. It never sends a command, so it never has to
know whether one may be repeated: that is for the engine, which reads NotSent and ReplyLost.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from mainstem.engines.redis import fast
from mainstem.engines.redis.address import Address
from mainstem.engines.redis.wire import Wire
from mainstem.errors import Unavailable

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 2.0
"""Seconds between failed attempts: doubling from the first to the longest, each varied so that clients spread."""


@dataclass(frozen=True, slots=True)
class LinkChange:
    """What became of the connection. ``away`` is how many seconds it was missing, when it is restored."""

    kind: Literal["lost", "restored"]
    where: str
    reason: Exception | None = None
    away: float = 0.0


class Link:
    """
    A connection to wherever ``resolve`` says, opened when first needed and again after each loss.

    ``resolve`` runs before every attempt, so that it can start a server of its own; its errors fail the attempt.
    ``on_change`` is called from the event loop, losses before restorations; closing the link is no change.
    """

    def __init__(
        self,
        resolve: Callable[[], Awaitable[Address]],
        *,
        connect: Callable[[Address], Awaitable[Wire]] = fast.connect,
        on_change: Callable[[LinkChange], None] | None = None,
    ) -> None:
        self._resolve = resolve
        self._connect = connect
        self._on_change = on_change
        self._wire: Wire | None = None
        self._attempt: asyncio.Task[Wire] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._failures = 0
        self._lost_at = 0.0
        self._closed = False

    @property
    def live(self) -> Wire | None:
        """The open connection if there is one; never connects."""
        wire = self._wire
        return wire if wire is not None and not wire.closed.is_set() else None

    async def get(self, *, wait: float = 0.0) -> Wire:
        """
        The live connection, or the next one, shared by all who wait for it.

        With ``wait`` seconds to spend, attempts that fail with Unavailable are repeated until they are spent; without,
        the error of one attempt is raised. That attempt comes after a pause that grows with each failure, so calling
        again in a loop is no flood. ConfigError and PermissionDenied are raised at once. Cancelling disturbs nobody.
        """
        wire = self._wire
        if wire is not None and not wire.closed.is_set():
            return wire
        if not wait:
            return await self._next()
        return await self._persist(wait)

    async def close(self) -> None:
        """End the connection and any attempt to open one; ``get`` raises Unavailable from now on."""
        self._closed = True
        for task in (self._attempt, self._watch):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        if self._wire is not None:
            await self._wire.aclose()

    async def _persist(self, wait: float) -> Wire:
        deadline = asyncio.get_running_loop().time() + wait
        last: Unavailable | None = None
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._next()
            except TimeoutError as error:
                if last is not None:
                    raise last  # noqa: B904 - the attempt's own cause says more than the clock's
                raise Unavailable(f"no connection within {wait:g} s: try again, or wait longer.") from error
            except Unavailable as error:
                if self._closed:
                    raise
                last = error

    async def _next(self) -> Wire:
        if self._closed:
            raise Unavailable("the connection was closed by this program: open the engine again.")
        if self._attempt is None or self._attempt.done():
            self._attempt = asyncio.create_task(self._open(), name="redis link")
            self._attempt.add_done_callback(_seen)
        attempt = self._attempt
        await asyncio.wait([attempt])  # unlike awaiting it, cancels nothing when the caller is cancelled
        if attempt.cancelled():
            raise Unavailable("the connection was closed by this program while it was being opened.")
        return attempt.result()

    async def _open(self) -> Wire:
        if self._watch is not None:
            await self._watch  # the loss is told before anything else happens
            self._watch = None
        if self._failures:
            await asyncio.sleep(_pause(self._failures))
        self._failures += 1
        address = await self._resolve()
        self._wire = wire = await self._connect(address)
        self._tell_restored(address)
        self._watch = asyncio.create_task(self._watch_over(wire, address), name="redis link watch")
        return wire

    async def _watch_over(self, wire: Wire, address: Address) -> None:
        opened = time.monotonic()
        await wire.closed.wait()
        self._lost_at = time.monotonic()
        if self._lost_at - opened >= LONGEST_PAUSE:
            self._failures = 0  # a connection that was lost at once was as good as none: keep slowing down
        self._tell(LinkChange("lost", address.where, wire.reason))

    def _tell_restored(self, address: Address) -> None:
        if self._lost_at:
            self._tell(LinkChange("restored", address.where, away=time.monotonic() - self._lost_at))
        self._lost_at = 0.0

    def _tell(self, change: LinkChange) -> None:
        if self._on_change is not None:
            asyncio.get_running_loop().call_soon(self._on_change, change)


def _pause(failures: int) -> float:
    longest = min(LONGEST_PAUSE, math.ldexp(FIRST_PAUSE, min(failures - 1, 10)))
    return longest * random.uniform(0.5, 1.0)


def _seen(attempt: asyncio.Task[Wire]) -> None:
    if not attempt.cancelled():
        attempt.exception()  # if all who waited were cancelled, nobody is left to be told
