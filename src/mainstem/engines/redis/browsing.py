"""
Reading without a group: where positions are, and pages of a stream after a cursor. Changes nothing on the server.

A read that waits has a connection of its own for as long; cancelling it drops the waiter, and the connection is used
again once the server has answered.
"""

from __future__ import annotations

import asyncio
from itertools import repeat
from typing import Literal, cast

from mainstem.engine import Cursor, Delivery, Page, StreamSpec
from mainstem.engines.redis.holds import Entry
from mainstem.engines.redis.layout import deliveries_of, log_key
from mainstem.engines.redis.link import Link
from mainstem.engines.redis.replies import checked, data, items, pairs
from mainstem.engines.redis.server import Server, lost
from mainstem.engines.redis.wire import ConnectionGone, Reply, ReplyError, command

BEGINNING = "0-0"
LONGEST = 5.0  # seconds one read may block, so that a dropped one frees its connection soon
IDLE_LINKS = 8
_LAST = 18446744073709551615


class Browsing:
    """Reads for all that have no group, over one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._idle: list[Link] = []

    async def locate(self, stream: str, at: Literal["beginning", "end"] | float) -> Cursor:
        """The cursor after which reading starts there."""
        spec = await self._server.spec(stream)
        if at == "beginning":
            return dict.fromkeys(spec.parts, BEGINNING)
        if at != "end":
            before = int(float(at) * 1000) - 1
            return dict.fromkeys(spec.parts, f"{before}-{_LAST}" if before >= 0 else BEGINNING)
        asked = [command(b"XINFO", b"STREAM", log_key(spec, part)) for part in spec.parts]
        replies = await self._server.pipeline(f"find the end of {stream!r}", asked)
        return {part: _last(stream, reply) for part, reply in zip(spec.parts, replies, strict=True)}

    async def read(self, stream: str, after: Cursor, limit: int, wait: float) -> Page:
        """At most ``limit`` events, those of one partition in order; waits up to ``wait`` seconds for the first."""
        spec = await self._server.spec(stream)
        cursor = dict.fromkeys(spec.parts, BEGINNING) | dict(after)
        reply = await self._server.call(f"read {stream!r}", *_read(spec, cursor, limit, 0.0))
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        while reply is None and loop.time() < until:
            reply = await self._waited(spec, cursor, limit, min(LONGEST, until - loop.time()))
        return _page(spec, cursor, reply, limit)

    async def _waited(self, spec: StreamSpec, cursor: Cursor, limit: int, wait: float) -> Reply:
        link = self._idle.pop() if self._idle else self._server.link()
        what = f"read {spec.name!r}"
        try:
            wire = await link.get()
        except BaseException:
            self._idle.append(link)
            raise
        future = wire.send(command(*_read(spec, cursor, limit, wait)), within=wait)
        answered = asyncio.ensure_future(self._answered(future, link))
        answered.add_done_callback(_looked_at)
        try:
            return checked(await asyncio.shield(answered), what)
        except ConnectionGone as error:
            raise lost(error, what) from error

    async def _answered(self, future: asyncio.Future[Reply], link: Link) -> Reply:
        try:
            return await future
        finally:
            if len(self._idle) < IDLE_LINKS:
                self._idle.append(link)
            else:
                await self._server.release(link)


def _looked_at(answered: asyncio.Task[Reply]) -> None:
    """A reader that was cancelled leaves its reply to nobody; that the connection ended is no news then."""
    if not answered.cancelled():
        answered.exception()


def _read(spec: StreamSpec, cursor: Cursor, limit: int, wait: float) -> list[bytes | str | int]:
    count = max(1, -(-limit // len(spec.parts)))
    block: list[bytes | str | int] = [b"BLOCK", max(1, int(wait * 1000))] if wait > 0 else []
    logs = [log_key(spec, part) for part in spec.parts]
    return [b"XREAD", b"COUNT", count, *block, b"STREAMS", *logs, *(cursor[part] for part in spec.parts)]


def _page(spec: StreamSpec, cursor: Cursor, reply: Reply, limit: int) -> Page:
    parts = {log_key(spec, part): part for part in spec.parts}
    found: list[Delivery] = []
    for each in items(reply):
        log, entries = items(each)
        part = (spec.name, parts[data(log)])
        found += deliveries_of(part, cast("list[Entry]", items(entries)), None, repeat(None))
    if len(spec.parts) > 1:
        found.sort(key=lambda delivery: delivery.recorded_ms)  # stable: the order of each partition stays
    found = found[:limit]
    moved = dict(cursor)
    for delivery in found:
        moved[delivery.part[1]] = delivery.position
    return Page(found, moved)


def _last(stream: str, reply: Reply) -> str:
    if isinstance(reply, ReplyError) and "no such key" in reply.text:
        return BEGINNING
    return data(pairs(checked(reply, f"find the end of {stream!r}"))[b"last-generated-id"]).decode()
