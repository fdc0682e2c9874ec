"""
A member of one group over streams of both kinds: one part for queues, one for keyed streams, each only if needed.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mainstem.engine import Delivery, GroupSpec, Part, Settled, Signal, StreamSpec
from mainstem.engines.redis.layout import group_key
from mainstem.engines.redis.queue import RedisQueueMember
from mainstem.engines.redis.server import Server
from mainstem.engines.redis.wire import command

if TYPE_CHECKING:
    from mainstem.engines.redis.keyed import RedisKeyedMember


class RedisMember:
    """``mainstem.engine.Member``. ``gone`` is called once it has left."""

    def __init__(self, server: Server, group: GroupSpec, gone: Callable[[RedisMember], None]) -> None:
        self._server = server
        self._group = group
        self._gone = gone
        self._queue: RedisQueueMember | None = None
        self._keyed: RedisKeyedMember | None = None
        self._specs: dict[str, StreamSpec] = {}
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._turn = False
        self._ended = False
        self._id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(6)}"

    async def follow(self, streams: Sequence[StreamSpec]) -> None:
        """Set which streams the member takes part in."""
        self._specs = {spec.name: spec for spec in streams}
        keyed = [spec for spec in streams if spec.keyed]
        queues = [spec for spec in streams if not spec.keyed]
        if queues and self._queue is None:
            self._queue = RedisQueueMember(self._server, self._group, self._id, self._wake)
        if keyed and self._keyed is None:
            from mainstem.engines.redis.keyed import RedisKeyedMember

            self._keyed = RedisKeyedMember(self._server, self._group, self._id, self._wake)
        if self._queue is not None:
            await self._queue.follow(queues)
        if self._keyed is not None:
            await self._keyed.follow(keyed)

    async def receive(self, limit: int, wait: float, paused: frozenset[Part]) -> Sequence[Delivery | Signal]:
        """At most ``limit`` deliveries, and what happened; cancelling it loses nothing."""
        taken = self._take(limit, paused)
        deadline = self._loop.time() + wait
        while not taken and not self._ended and self._loop.time() < deadline:
            await self._wait(deadline)
            taken = self._take(limit, paused)
        return taken

    async def settle(self, items: Sequence[Settled]) -> Sequence[Delivery]:
        """Returns those that were fenced off."""
        if self._keyed is None and self._queue is not None:
            return await self._queue.settle(items)
        if self._queue is None and self._keyed is not None:
            return await self._keyed.settle(items)
        if self._queue is None or self._keyed is None:
            return ()
        keyed = [item for item in items if self._is_keyed(item)]
        queued = [item for item in items if not self._is_keyed(item)]
        fenced: list[Delivery] = []
        if queued:
            fenced += await self._queue.settle(queued)
        if keyed:
            fenced += await self._keyed.settle(keyed)
        return fenced

    async def count(self, stream: str, handled: int, failed: int) -> None:
        """Add to the counters that ``describe`` shows; those of a keyed stream are kept with its first partition."""
        key = group_key(await self._server.spec(stream), 0, self._group.name)
        changes = [command(b"HINCRBY", key, name, by) for name, by in (("handled", handled), ("failed", failed)) if by]
        await self._server.pipeline(f"count events of {stream!r}", changes, changes=True)

    async def yield_part(self, part: Part) -> None:
        """Hand the partition over."""
        if self._keyed is not None:
            await self._keyed.yield_part(part)

    async def leave(self) -> None:
        """Release all that is unsettled, uncounted; a receive that waits returns nothing."""
        self._ended = True
        self._wake()
        try:
            for member in (self._queue, self._keyed):
                if member is not None:
                    await member.leave()
        except BaseException:  # whoever gave up waiting must not leave tasks and renewals behind
            self.cut()
            raise
        finally:
            self._gone(self)

    def cut(self) -> None:
        """End all that runs here, as a crash would."""
        self._ended = True
        for member in (self._queue, self._keyed):
            if member is not None:
                member.cut()
        self._wake()

    def _is_keyed(self, item: Settled) -> bool:
        spec = self._specs.get(item.delivery.part[0]) or self._server.known(item.delivery.part[0])
        return spec is not None and spec.keyed

    def _take(self, limit: int, paused: frozenset[Part]) -> list[Delivery | Signal]:
        """What the parts have, each in turn first, so that neither starves."""
        if self._ended:
            return []
        if self._keyed is None:
            return [] if self._queue is None else self._queue.take(limit, paused)
        if self._queue is None:
            return self._keyed.take(limit, paused)
        self._turn = not self._turn
        first, second = (self._queue, self._keyed) if self._turn else (self._keyed, self._queue)
        taken = first.take(max(1, limit // 2), paused)
        return [*taken, *second.take(limit - len(taken), paused)] if len(taken) < limit else taken

    async def _wait(self, deadline: float) -> None:
        self._waiter = self._loop.create_future()
        timer = self._loop.call_at(deadline, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
