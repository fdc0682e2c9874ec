"""
Moving groups, removing them, and changing what a stream keeps. Rare, by an operator: cost may grow with the stream.
"""

from __future__ import annotations

import msgspec

from mainstem.engine import Cursor, StreamSpec
from mainstem.engines.redis.group_scripts import FORGET, SEEK_KEYED, SEEK_QUEUE
from mainstem.engines.redis.layout import STREAMS_KEY, group_key, log_key, members_key
from mainstem.engines.redis.replies import checked, data, integer, items, pairs
from mainstem.engines.redis.scripts import Call
from mainstem.engines.redis.server import Server
from mainstem.engines.redis.wire import Reply, ReplyError, command
from mainstem.errors import ConfigError

PAGE = 1000


class RedisAdmin:
    """``mainstem.engine.Admin`` over one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def seek(self, stream: str, group: str, to: Cursor) -> None:
        """Set where the group stands in the given partitions; what its members have in their hands is fenced."""
        spec = await self._server.spec(stream)
        what = f"move the group {group!r} of {stream!r}"
        script = SEEK_KEYED if spec.keyed else SEEK_QUEUE
        for partition, position in to.items():
            keys = (log_key(spec, partition), group_key(spec, partition, group))
            ordinal = await self._ordinal(keys[0], position, what)
            await self._server.run(what, Call(script, keys, (group, position, ordinal)))
            if not spec.keyed:
                await self._forget(keys[0], group, what)

    async def delete_group(self, stream: str, group: str) -> None:
        """Remove the group with its counters and dead letters; members that still run make it anew."""
        spec = await self._server.spec(stream)
        what = f"delete the group {group!r} of {stream!r}"
        commands: list[bytes] = []
        for partition in spec.parts:
            keys = [group_key(spec, partition, group, suffix) for suffix in ("", "dead", "again")]
            commands += [command(b"XGROUP", b"DESTROY", log_key(spec, partition), group), command(b"DEL", *keys)]
        commands.append(command(b"DEL", members_key(stream, group)))
        for reply in await self._server.pipeline(what, commands, changes=True):
            if not (isinstance(reply, ReplyError) and "requires the key to exist" in reply.text):
                checked(reply, what)

    async def amend(self, spec: StreamSpec) -> None:
        """Store another retention. Raises ConfigError where anything else differs from what is stored."""
        stored = await self._server.stored(spec.name)
        same = msgspec.structs.replace(
            stored, retain=spec.retain, max_events=spec.max_events, until_read=spec.until_read
        )
        if same != spec:
            raise ConfigError(
                f"stream {spec.name!r} is stored with other partitions or another type: only its retention can change."
            )
        what = f"amend stream {spec.name!r}"
        await self._server.call(what, b"HSET", STREAMS_KEY, spec.name, msgspec.json.encode(spec), changes=True)
        self._server.remember(spec)

    async def _forget(self, log: bytes, group: str, what: str) -> None:
        """Take all that was pending until now off the list, in bounded steps."""
        summary = items(checked(await self._server.call(what, b"XPENDING", log, group), what))
        if not integer(summary[0]):
            return
        start, end = b"-", data(summary[2])
        while True:
            stopped = data(await self._server.run(what, Call(FORGET, (log,), (group, start, end))))
            if not stopped:
                return
            start = b"(" + stopped

    async def _ordinal(self, log: bytes, position: str, what: str) -> str:
        """How many events were added up to there, counted from the stream's end; "" where nothing is behind it."""
        wire_reply = await self._server.pipeline(what, [command(b"XINFO", b"STREAM", log)])
        if isinstance(wire_reply[0], ReplyError):
            return ""
        about = pairs(wire_reply[0])
        last, after, behind = data(about[b"last-generated-id"]), f"({position}".encode(), 0
        while True:
            page = items(await self._server.call(what, b"XRANGE", log, after, last, b"COUNT", PAGE))
            behind += len(page)
            if len(page) < PAGE:
                return str(max(0, integer(about[b"entries-added"]) - behind))
            after = b"(" + _id(page[-1])


def _id(entry: Reply) -> bytes:
    return data(items(entry)[0])
