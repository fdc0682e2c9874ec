"""The memory engine: the contract over a `MemoryStore`. State is in store.py, groups.py and desk.py."""

from __future__ import annotations

import asyncio
import fnmatch
import itertools
import time
from collections.abc import Sequence
from typing import Literal

from mainstem.engine import (
    Abilities,
    Cursor,
    DeadLetter,
    Delivery,
    GroupSpec,
    Page,
    Part,
    Published,
    Record,
    StreamInfo,
    StreamSpec,
)
from mainstem.engines.memory.log import Entry, Log
from mainstem.engines.memory.member import MemoryMember
from mainstem.engines.memory.store import MemoryStore, Stream
from mainstem.errors import ConfigError, Unavailable

_NUMBERS = itertools.count(1)


class MemoryEngine:
    """Streams in this process. Engines on one store see the same streams, as processes on one server do."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self._store = store or MemoryStore()
        self._members: set[MemoryMember] = set()
        self._closed = ""

    @property
    def can(self) -> Abilities:
        return Abilities(
            name="memory",
            shared=False,
            durable=False,
            retention=True,
            until_read=True,
            gaps=True,
            dead=_MemoryDeadLetters(self._store),
            admin=_MemoryAdmin(self._store),
        )

    async def declare(self, spec: StreamSpec) -> StreamSpec:
        self._check()
        return self._store.declare(spec).spec

    async def streams(self, glob: str) -> Sequence[StreamSpec]:
        self._check()
        names = sorted(fnmatch.filter(self._store.streams, glob))
        return [self._store.streams[name].spec for name in names]

    async def publish(self, records: Sequence[tuple[Part, Record]], wait: float) -> Sequence[Published]:
        """A full until-read stream answers at once: waiting for room is the publisher's policy."""
        self._check()
        outcomes: list[Published] = []
        refused: Unavailable | None = None
        for part, record in records:
            outcome = refused or self._append(part, record)
            refused = outcome if isinstance(outcome, Unavailable) else None
            outcomes.append(outcome)
        self._store.notify()
        await asyncio.sleep(0)  # a publisher in a tight loop lets its readers run, as a server's reply would
        return outcomes

    async def locate(self, stream: str, at: Literal["beginning", "end"] | float) -> Cursor:
        self._check()
        return {log.part[1]: str(_located(log, at)) for log in self._store.stream(stream).logs}

    async def read(self, stream: str, after: Cursor, limit: int, wait: float) -> Page:
        end = time.monotonic() + wait
        while True:
            self._check()
            found = self._store.stream(stream)
            page = _page(found, found.ordinals(after), limit)
            left = end - time.monotonic()
            if page.deliveries or left <= 0:
                return page
            await self._store.changed(left)

    async def join(self, group: GroupSpec) -> MemoryMember:
        self._check()
        member = MemoryMember(self._store, group, next(_NUMBERS), self._members.discard)
        self._members.add(member)
        return member

    async def describe(self, stream: str) -> StreamInfo:
        self._check()
        return self._store.stream(stream).info()

    async def close(self) -> None:
        """Its members leave. Calling it again changes nothing."""
        for member in list(self._members):
            await member.leave()
        self._closed = self._closed or "was closed"
        self._store.notify()

    def abort(self) -> None:
        self._closed = "was aborted"
        self.stall()
        for member in self._members:
            member.stop("belonged to an engine that was aborted")
        self._members.clear()

    def stall(self) -> None:
        """For tests: as if the process were stopped (SIGSTOP). Leases run; a `receive` wakes its member again."""
        for member in self._members:
            member.stall()

    def _append(self, part: Part, record: Record) -> Published:
        stream = self._store.streams.get(part[0])
        if stream is None:
            return ConfigError(f"stream {part[0]!r} is not declared on the memory engine; declare it first.")
        if part[1] not in stream.spec.parts:
            return ConfigError(f"stream {part[0]!r} has no partition {part[1]}; it has {len(stream.spec.parts)}.")
        return stream.append(part[1], record)

    def _check(self) -> None:
        if self._closed:
            raise Unavailable(f"the memory engine {self._closed}; open another one.")


class _MemoryDeadLetters:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def dead(self, stream: str, group: str, after: str, limit: int) -> Sequence[DeadLetter]:
        letters = [letter for desk in self._store.stream(stream).desks(group) for letter in desk.dead.values()]
        letters.sort(key=_letter_id)
        return [letter for letter in letters if letter.id > after][:limit]

    async def restore(self, stream: str, group: str, ids: Sequence[str]) -> int:
        restored = sum(desk.restore(ids) for desk in self._store.stream(stream).desks(group))
        self._store.notify()
        return restored

    async def purge(self, stream: str, group: str, ids: Sequence[str]) -> int:
        desks = list(self._store.stream(stream).desks(group))
        return sum(desk.dead.pop(each, None) is not None for desk in desks for each in ids)


class _MemoryAdmin:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def seek(self, stream: str, group: str, to: Cursor) -> None:
        found = self._store.stream(stream)
        state = found.group(group, "beginning")
        for partition, ordinal in enumerate(found.ordinals(to)):
            state.seek(partition, ordinal)

    async def delete_group(self, stream: str, group: str) -> None:
        self._store.stream(stream).groups.pop(group, None)
        self._store.notify()

    async def amend(self, spec: StreamSpec) -> None:
        stream = self._store.stream(spec.name)
        if (spec.partitions, spec.type) != (stream.spec.partitions, stream.spec.type):
            raise ConfigError(f"stream {spec.name!r} is stored as {stream.spec}; only its retention can be amended.")
        stream.spec = spec
        stream.sweep()


def _located(log: Log, at: Literal["beginning", "end"] | float) -> int:
    if at == "beginning":
        return 0
    if at == "end":
        return log.last
    return log.before(int(at * 1000))


def _page(stream: Stream, after: list[int], limit: int) -> Page:
    stream.sweep()
    found: list[tuple[Log, Entry]] = []
    for log, ordinal in zip(stream.logs, after, strict=True):
        found += ((log, entry) for entry in log.after(ordinal, limit))
    found.sort(key=lambda each: each[1].ms)  # stable: the order within a partition holds
    cursor = {partition: str(ordinal) for partition, ordinal in enumerate(after)}
    deliveries: list[Delivery] = []
    for log, entry in found[:limit]:
        cursor[log.part[1]] = str(entry.ordinal)
        deliveries.append(Delivery(log.part, str(entry.ordinal), entry.record, entry.ms))
    return Page(deliveries, cursor)


def _letter_id(letter: DeadLetter) -> str:
    return letter.id
