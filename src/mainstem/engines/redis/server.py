"""
One server as its engine uses it: where it is, the connections to it, and the specifications of streams seen there.

Streams and groups are only names here. Commands are sent once; the two ways of losing a connection become the two
errors that callers must tell apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from mainstem.engine import StreamSpec
from mainstem.engines.redis import fast
from mainstem.engines.redis.address import Address
from mainstem.engines.redis.facts import ServerFacts, read_facts
from mainstem.engines.redis.layout import STREAMS_KEY
from mainstem.engines.redis.lease import Renewals
from mainstem.engines.redis.link import Link
from mainstem.engines.redis.replies import checked, data
from mainstem.engines.redis.scripts import Call, run, run_many
from mainstem.engines.redis.wire import ConnectionGone, NotSent, Reply, Wire, command
from mainstem.errors import ConfigError, MainstemError, OutcomeUnknown, Unavailable


class Server:
    """
    Connections to one server: ``commands`` for what is answered at once, ``publishing`` for big batches, ``link`` for
    more. ``resolve`` is asked before each connection.
    """

    def __init__(
        self,
        resolve: Callable[[], Awaitable[Address]],
        connect: Callable[[Address], Awaitable[Wire]] = fast.connect,
    ) -> None:
        self._resolve = resolve
        self._connect = connect
        self._links: set[Link] = set()
        self._renewals: dict[float, Renewals] = {}
        self._specs: dict[str, StreamSpec] = {}
        self._dropping: asyncio.Task[None] | None = None
        self.address = Address()
        self.facts = ServerFacts("redis", "")
        self.commands = self.link()
        self.publishing = self.link()

    async def open(self) -> None:
        """Connect, and learn what the server is. Raises what connecting raises, ConfigError for one too old."""
        wire = await self.commands.get()
        await self.publishing.get()
        try:
            self.facts = await read_facts(wire)
        except ConnectionGone as error:
            raise lost(error, "ask the server about itself") from error

    def link(self) -> Link:
        """Another connection of the same kind; ``release`` ends it."""
        link = Link(self._located, connect=self._connect)
        self._links.add(link)
        return link

    async def release(self, link: Link) -> None:
        """End a connection made by ``link``."""
        self._links.discard(link)
        await link.close()

    def renewals(self, lease: float) -> Renewals:
        """The thread that renews leases of this length, each quarter of it."""
        if lease not in self._renewals:
            self._renewals[lease] = Renewals(lambda: self.address, lease / 4)
        return self._renewals[lease]

    async def close(self) -> None:
        """End all connections and threads."""
        renewals, self._renewals = list(self._renewals.values()), {}
        for each in renewals:
            each.stop()
        if renewals:
            await asyncio.gather(*(asyncio.to_thread(each.close) for each in renewals))
        links, self._links = self._links, set()
        await asyncio.gather(*(link.close() for link in links))

    def drop(self) -> None:
        """Cut all connections now, without waiting for anything."""
        for each in self._renewals.values():
            each.stop()
        for link in self._links:
            if link.live is not None:
                link.live.close()
        self._dropping = asyncio.get_running_loop().create_task(self.close(), name="redis engine drops")

    async def call(self, what: str, *parts: bytes | str | int, changes: bool = False) -> Reply:
        """One command's reply; its error reply raises, translated. ``changes``: a lost reply is an OutcomeUnknown."""
        wire = await self.commands.get()
        try:
            return checked(await wire.send(command(*parts)), what)
        except ConnectionGone as error:
            raise lost(error, what, changes=changes) from error

    async def pipeline(self, what: str, commands: Sequence[bytes], changes: bool = False) -> list[Reply]:
        """Replies of many commands; error replies are values."""
        if not commands:
            return []
        wire = await self.commands.get()
        try:
            return await wire.send_many(commands, len(commands))
        except ConnectionGone as error:
            raise lost(error, what, changes=changes) from error

    async def run(self, what: str, call: Call) -> Reply:
        """One script's reply; its error reply raises, translated. A lost reply is an OutcomeUnknown."""
        wire = await self.commands.get()
        try:
            return checked(await run(wire, call), what)
        except ConnectionGone as error:
            raise lost(error, what, changes=True) from error

    async def run_many(self, what: str, calls: Sequence[Call]) -> list[Reply]:
        """Replies of many scripts; error replies are values."""
        wire = await self.commands.get()
        try:
            return await run_many(wire, calls)
        except ConnectionGone as error:
            raise lost(error, what, changes=True) from error

    async def declare(self, spec: StreamSpec) -> StreamSpec:
        """Store the specification unless the stream has one; returns the one that is stored."""
        what = f"declare stream {spec.name!r}"
        store = [
            command(b"HSETNX", STREAMS_KEY, spec.name, msgspec.json.encode(spec)),
            command(b"HGET", STREAMS_KEY, spec.name),
        ]
        made, stored = await self.pipeline(what, store, changes=True)
        checked(made, what)
        return self.remember(spec_of(spec.name, checked(stored, what)))

    def remember(self, spec: StreamSpec) -> StreamSpec:
        """Keep it, so that ``spec`` need not ask."""
        self._specs[spec.name] = spec
        return spec

    def known(self, stream: str) -> StreamSpec | None:
        """The specification if it was seen; asks nobody."""
        return self._specs.get(stream)

    async def spec(self, stream: str) -> StreamSpec:
        """The stream's specification. Raises ConfigError for a stream that was never declared."""
        known = self._specs.get(stream)
        if known is not None:
            return known
        return self.remember(await self.stored(stream))

    async def stored(self, stream: str) -> StreamSpec:
        """The same as it is stored now."""
        reply = await self.call(f"read the specification of {stream!r}", b"HGET", STREAMS_KEY, stream)
        if reply is None:
            raise ConfigError(f"there is no stream {stream!r}: declare it by opening it with its specification.")
        return spec_of(stream, reply)

    async def _located(self) -> Address:
        self.address = await self._resolve()
        return self.address


def lost(error: ConnectionGone, what: str, *, changes: bool = False) -> MainstemError:
    """What to raise for a command whose connection ended."""
    if isinstance(error, NotSent) or not changes:
        return Unavailable(f"cannot {what}: the connection ended before the server answered; try again.")
    return OutcomeUnknown(f"it is unknown whether {what} happened: the connection ended before the reply; look first.")


def spec_of(stream: str, reply: Reply) -> StreamSpec:
    """Read a stored specification. Raises ConfigError for one that this version cannot read."""
    try:
        return msgspec.json.decode(data(reply), type=StreamSpec)
    except msgspec.MsgspecError as error:
        raise ConfigError(
            f"the stored specification of {stream!r} cannot be read ({error}): was it written by a newer version?"
        ) from error
