"""
The Redis and Valkey engine: one server behind the engine contract.

Only the wiring stands here; each duty has its module. What is opened here is closed here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from mainstem.engine import Abilities, Cursor, GroupSpec, Page, Part, Published, Record, StreamInfo, StreamSpec
from mainstem.engines.redis import fast
from mainstem.engines.redis.address import Address
from mainstem.engines.redis.admin import RedisAdmin
from mainstem.engines.redis.browsing import Browsing
from mainstem.engines.redis.dead import RedisDeadLetters
from mainstem.engines.redis.describe import describe
from mainstem.engines.redis.facts import ServerFacts
from mainstem.engines.redis.layout import STREAMS_KEY
from mainstem.engines.redis.member import RedisMember
from mainstem.engines.redis.publishing import Publishing
from mainstem.engines.redis.replies import data, items
from mainstem.engines.redis.server import Server, spec_of
from mainstem.engines.redis.wire import Wire
from mainstem.errors import ConfigError, MainstemError

_log = logging.getLogger("mainstem")

LEAVING = 5.0
"""Seconds that ``close`` gives members which have not left."""


class RedisEngine:
    """``mainstem.engine.Engine`` over one Redis 7.0, Valkey 8, or newer."""

    def __init__(self, server: Server, name: str) -> None:
        self._server = server
        self._publishing = Publishing(server)
        self._browsing = Browsing(server)
        self._members: set[RedisMember] = set()
        self._can = Abilities(
            name=name,
            shared=True,
            durable=True,  # streams outlive those who use them; what outlives the server is told by `facts`
            retention=True,
            until_read=True,
            gaps=True,
            dead=RedisDeadLetters(server),
            admin=RedisAdmin(server),
        )

    @classmethod
    async def open(
        cls,
        resolve: Callable[[], Awaitable[Address]],
        *,
        name: str = "redis",
        connect: Callable[[Address], Awaitable[Wire]] = fast.connect,
    ) -> RedisEngine:
        """Connect to wherever ``resolve`` says, now and after each loss. Raises what connecting raises, ConfigError for
        a server that is too old."""
        server = Server(resolve, connect)
        try:
            await server.open()
        except BaseException:
            await server.close()
            raise
        return cls(server, name)

    @property
    def can(self) -> Abilities:
        """What this engine promises."""
        return self._can

    @property
    def facts(self) -> ServerFacts:
        """What the server said about itself at opening."""
        return self._server.facts

    @property
    def address(self) -> Address:
        """Where the server is."""
        return self._server.address

    async def declare(self, spec: StreamSpec) -> StreamSpec:
        """Create the stream, or return what is stored. Raises ConfigError where memory pressure may evict it."""
        if self._server.facts.evicts_streams:
            policy = self._server.facts.policy
            raise ConfigError(
                f"stream {spec.name!r} is not safe here: the server's maxmemory-policy {policy} deletes whole streams; "
                "set it to noeviction, or to one of volatile-*."
            )
        return await self._server.declare(spec)

    async def streams(self, glob: str) -> Sequence[StreamSpec]:
        """The declared streams whose names match, sorted by name."""
        found: dict[str, StreamSpec] = {}
        cursor = b"0"
        while True:
            reply = items(
                await self._server.call("list streams", b"HSCAN", STREAMS_KEY, cursor, b"MATCH", glob, b"COUNT", 1000)
            )
            flat = items(reply[1])
            for name, stored in zip(flat[::2], flat[1::2], strict=True):
                stream = data(name).decode("utf-8", "backslashreplace")
                try:
                    found[stream] = self._server.remember(spec_of(stream, stored))
                except ConfigError as error:  # one that cannot be read must not hide the others
                    _log.warning("left out of the list: %s", error)
            cursor = data(reply[0])
            if cursor == b"0":
                return [found[name] for name in sorted(found)]

    async def publish(self, records: Sequence[tuple[Part, Record]], wait: float) -> Sequence[Published]:
        """Store in order; an outcome for each, known within about ``wait`` seconds."""
        return await self._publishing.publish(records, wait)

    async def locate(self, stream: str, at: Literal["beginning", "end"] | float) -> Cursor:
        """The cursor after which reading starts there."""
        return await self._browsing.locate(stream, at)

    async def read(self, stream: str, after: Cursor, limit: int, wait: float) -> Page:
        """Read without a group."""
        return await self._browsing.read(stream, after, limit, wait)

    async def join(self, group: GroupSpec) -> RedisMember:
        """A new member of the group; it takes part once it follows streams."""
        member = RedisMember(self._server, group, self._members.discard)
        self._members.add(member)
        return member

    async def describe(self, stream: str) -> StreamInfo:
        """The stream and its groups; its specification is read anew."""
        return await describe(self._server, self._server.remember(await self._server.stored(stream)))

    async def close(self) -> None:
        """Let members that are left leave, and end all connections."""
        try:
            async with asyncio.timeout(LEAVING):
                for member in list(self._members):
                    await member.leave()
        except (TimeoutError, MainstemError):
            for member in list(self._members):
                member.cut()
        self._members.clear()
        await self._server.close()

    def abort(self) -> None:
        """Drop everything at once, as a crash would."""
        for member in self._members:
            member.cut()
        self._members.clear()
        self._server.drop()
