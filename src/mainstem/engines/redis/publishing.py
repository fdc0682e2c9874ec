"""
Storing records: packed, in chunks, two of them in the air; an outcome for each record, in order. Nothing is retried.

Streams that keep events until they are read go through a script that holds their hard cap; all others are plain XADDs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import TypeAlias, TypeVar

from mainstem.engine import Part, Published, Record, StreamSpec
from mainstem.engines.redis.group_scripts import APPEND
from mainstem.engines.redis.layout import Names, Packer, clock, log_key, record_fields, trim_clause
from mainstem.engines.redis.replies import data, items, translate
from mainstem.engines.redis.scripts import is_unknown
from mainstem.engines.redis.server import Server, lost
from mainstem.engines.redis.wire import NotSent, Reply, ReplyError, ReplyLost, Wire, command
from mainstem.errors import ConfigError, MainstemError, OutcomeUnknown, Unavailable

CHUNK_EVENTS = 500
CHUNK_BYTES = 1 << 20
CAPPED_EVENTS = 100  # a script holds the server up for all of them
FLIGHTS = 2

Item = tuple[Part, Record]
T = TypeVar("T")
_Flight: TypeAlias = "tuple[Sequence[int], asyncio.Future[list[Reply]]]"


class Publishing:
    """Publishes on a connection of its own, so that acknowledgements never wait behind a batch."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._packers: dict[Part, tuple[StreamSpec, Packer]] = {}
        self._names = Names()
        self._turn = asyncio.Lock()  # a large call leaves in several writes: another one's must not come between

    async def publish(self, records: Sequence[Item], wait: float) -> list[Published]:
        """Store in order; an outcome for each, known within about ``wait`` seconds."""
        until = time.monotonic() + wait
        try:
            async with asyncio.timeout(wait if self._turn.locked() else None):
                await self._turn.acquire()
        except TimeoutError:
            late = Unavailable(f"what was published before took longer than {wait:g} s: this was not sent; try again.")
            return [late] * len(records)
        outcomes: list[Published | None] = [None] * len(records)
        try:
            flights = await self._send(records, outcomes, until)
        except MainstemError as error:
            return [error] * len(records)
        finally:
            self._turn.release()
        for chunk, flight in flights:
            await _land(chunk, flight, records, outcomes, until)
        return [outcome if outcome is not None else _never(records[at]) for at, outcome in enumerate(outcomes)]

    async def _send(self, records: Sequence[Item], outcomes: list[Published | None], until: float) -> list[_Flight]:
        """Hand all to the connection; returns the flights that have not landed."""
        specs = await self._specs(records, outcomes)
        wire = self._server.publishing.live
        if wire is None:
            wire = await self._server.publishing.get(wait=max(until - time.monotonic(), 0.001))
        simple = {stream for stream, spec in specs.items() if not spec.until_read}
        plain = [at for at, (part, _) in enumerate(records) if part[0] in simple]
        capped: dict[Part, list[int]] = {}
        if len(plain) < len(records):
            for at, (part, _) in enumerate(records):
                if part[0] in specs and part[0] not in simple:
                    capped.setdefault(part, []).append(at)
        flights = await self._plain(wire, records, plain, specs, outcomes, until)
        for part, places in capped.items():
            await self._capped(wire, records, places, specs[part[0]], outcomes, until)
        return flights

    async def _specs(self, records: Sequence[Item], outcomes: list[Published | None]) -> dict[str, StreamSpec]:
        """Those of all streams that exist; the records of others fail here."""
        specs: dict[str, StreamSpec] = {}
        for stream in dict.fromkeys([part[0] for part, _ in records]):
            try:
                specs[stream] = await self._server.spec(stream)
            except ConfigError as error:
                for at, (part, _) in enumerate(records):
                    outcomes[at] = error if part[0] == stream else outcomes[at]
        return specs

    async def _plain(
        self,
        wire: Wire,
        records: Sequence[Item],
        places: Sequence[int],
        specs: dict[str, StreamSpec],
        outcomes: list[Published | None],
        until: float,
    ) -> list[_Flight]:
        flights: list[_Flight] = []
        for chunk, commands in self._chunks(records, places, specs):
            await wire.drain()
            flights.append((chunk, wire.send_many(commands, len(chunk))))
            if len(flights) == FLIGHTS:
                await _land(*flights.pop(0), records, outcomes, until)
        return flights

    def _chunks(
        self, records: Sequence[Item], places: Sequence[int], specs: dict[str, StreamSpec]
    ) -> Iterator[tuple[Sequence[int], list[bytes]]]:
        now = clock()
        commands: list[bytes] = []
        size = start = 0
        packs = {part: self._packer(specs[part[0]], part).pack for part in {records[at][0] for at in places}}
        for end, at in enumerate(places):
            part, record = records[at]
            if record.extra:
                commands.append(_with_extra(specs[part[0]], part, record))
                size += len(commands[-1])
            else:
                size += packs[part](record, now, commands)
            if end + 1 - start == CHUNK_EVENTS or size >= CHUNK_BYTES:
                yield places[start : end + 1], commands
                commands, size, start = [], 0, end + 1
        if commands:
            yield places[start:], commands

    def _packer(self, spec: StreamSpec, part: Part) -> Packer:
        known = self._packers.get(part)
        if known is None or known[0] is not spec:
            known = self._packers[part] = (spec, Packer(spec, part[1], self._names))
        return known[1]

    async def _capped(
        self,
        wire: Wire,
        records: Sequence[Item],
        places: Sequence[int],
        spec: StreamSpec,
        outcomes: list[Published | None],
        until: float,
    ) -> None:
        """Up to the hard cap; what does not fit, and all behind it, was not stored."""
        for start in range(0, len(places), CAPPED_EVENTS):
            some = places[start : start + CAPPED_EVENTS]
            part = records[some[0]][0]
            args: list[bytes | int] = [max(1, (spec.max_events or 1 << 62) // len(spec.parts))]
            for at in some:
                fields = record_fields(records[at][1])
                args += [len(fields), *fields]
            await wire.drain()
            stored = await _append(wire, log_key(spec, part[1]), args, [records[at] for at in some], until)
            for at, outcome in zip(some, stored, strict=True):
                outcomes[at] = outcome if outcome != "" else _full(spec)
            if any(isinstance(outcomes[at], MainstemError) for at in some):
                for at in places[start + CAPPED_EVENTS :]:
                    outcomes[at] = outcomes[some[-1]]
                return


async def _append(
    wire: Wire, log: bytes, args: Sequence[bytes | int], batch: Sequence[Item], until: float
) -> list[Published]:
    try:
        reply = await _within(until, wire.send(APPEND.by_sha((log,), args)))
        if is_unknown(reply):
            reply = await _within(until, wire.send(APPEND.in_full((log,), args)))
    except NotSent as error:
        return [lost(error, "publish")] * len(batch)
    except ReplyLost as error:
        return [_unknown(item, error) for item in batch]
    if isinstance(reply, ReplyError):
        return [translate(reply, f"publish to {batch[0][0][0]!r}")] * len(batch)
    return [data(one).decode() for one in items(reply)]


async def _land(
    chunk: Sequence[int],
    flight: asyncio.Future[list[Reply]],
    records: Sequence[Item],
    outcomes: list[Published | None],
    until: float,
) -> None:
    try:
        replies = await _within(until, flight)
    except NotSent as error:
        failed = lost(error, "publish")
        for at in chunk:
            outcomes[at] = failed
        return
    except ReplyLost as error:
        replies = list(error.replies)
        for at in chunk[len(replies) :]:
            outcomes[at] = _unknown(records[at], error)
    for at, reply in zip(chunk, replies, strict=False):
        if isinstance(reply, bytes):
            outcomes[at] = reply.decode()
        elif isinstance(reply, ReplyError):
            outcomes[at] = translate(reply, f"publish to {records[at][0][0]!r}")


async def _within(until: float, flight: asyncio.Future[T]) -> T:
    late = flight.get_loop().call_later(max(until - time.monotonic(), 0.0), _too_late, flight)
    try:
        return await flight
    finally:
        late.cancel()


def _too_late(flight: asyncio.Future[T]) -> None:
    """The deadline passed: the commands may be applied all the same, and their late replies are dropped."""
    if not flight.done():
        flight.set_exception(ReplyLost("no reply within the publish deadline"))


def _with_extra(spec: StreamSpec, part: Part, record: Record) -> bytes:
    """A record that was read from a foreign writer keeps the fields it had; rare, so not packed by template."""
    trim = trim_clause(spec, clock())
    fields = record_fields(record)
    tail = command(b"*", *fields)
    return b"*%d\r\n%b%b%b" % (
        len(fields) + 3 + (3 if trim else 0),
        command(b"XADD", log_key(spec, part[1])).partition(b"\r\n")[2],
        trim,
        tail.partition(b"\r\n")[2],
    )


def _unknown(item: Item, cause: Exception) -> OutcomeUnknown:
    event = item[1].id.decode("utf-8", "replace")
    error = OutcomeUnknown(
        f"it is unknown whether event {event} was stored in {item[0][0]!r}: the connection ended before the reply; "
        "look for it, or publish it again where duplicates do no harm.",
        [event],
    )
    error.__cause__ = cause
    return error


def _full(spec: StreamSpec) -> Unavailable:
    return Unavailable(
        f"stream {spec.name!r} is full: its slowest group has not read {spec.max_events} events; "
        "let it catch up, delete it, or amend max_events."
    )


def _never(item: Item) -> MainstemError:
    return MainstemError(f"the server gave no answer for an event of {item[0][0]!r}: is it Redis or Valkey?")
