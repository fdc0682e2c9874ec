"""
The streams of a process, and whoever waits for a change. Retention is applied here.

A store belongs to one event loop; several engines may share it, as processes share a server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from mainstem.engine import Cursor, Published, Record, StreamInfo, StreamSpec
from mainstem.engines.memory.desk import Desk
from mainstem.engines.memory.groups import Group, KeyedGroup, QueueGroup
from mainstem.engines.memory.log import Log
from mainstem.errors import ConfigError, Unavailable

_SWEEP_EVERY = 256  # appends between looks at what an until-read stream may drop


class Stream:
    """One stream: its logs and its groups."""

    def __init__(self, spec: StreamSpec, notify: Callable[[], None]) -> None:
        self.spec = spec
        self.logs = [Log((spec.name, partition)) for partition in spec.parts]
        self.groups: dict[str, Group] = {}
        self._notify = notify

    def append(self, partition: int, record: Record) -> Published:
        """Store the record, or refuse it: an until-read stream never drops what a group has still to read."""
        log = self.logs[partition]
        if self._full(log):
            self.sweep()
        if self.spec.until_read and self._full(log):
            return Unavailable(
                f"stream {self.spec.name!r} holds its {self.spec.max_events} unread events; "
                f"publish again when its slowest group has read some."
            )
        entry = log.append(record, now_ms())
        if self.spec.retain is not None or entry.ordinal % _SWEEP_EVERY == 0:
            self.sweep()
        self._bound(log)
        return str(entry.ordinal)

    def sweep(self) -> None:
        """Drop what retention no longer keeps."""
        for log in self.logs:
            if self.spec.until_read:
                log.trim(self._read_by_all(log) + 1)
            elif self.spec.retain is not None:
                log.trim(log.before(now_ms() - int(self.spec.retain * 1000)) + 1)
            self._bound(log)

    def group(self, name: str, start: str) -> Group:
        """The group, created at `start` if it is new."""
        known = self.groups.get(name)
        if known is None:
            kind = KeyedGroup if self.spec.keyed else QueueGroup
            known = self.groups[name] = kind(name, self.logs, start == "end", self._notify)
        return known

    def known_group(self, name: str) -> Group:
        """The group, or `ConfigError`."""
        if name not in self.groups:
            raise ConfigError(f"stream {self.spec.name!r} has no group {name!r}; its groups are {sorted(self.groups)}.")
        return self.groups[name]

    def desks(self, group: str) -> Iterable[Desk]:
        return self.known_group(group).desks

    def info(self) -> StreamInfo:
        self.sweep()
        filled = [log for log in self.logs if len(log)]
        return StreamInfo(
            spec=self.spec,
            length=sum(map(len, self.logs)),
            added=sum(log.last for log in self.logs),
            bytes=sum(log.bytes for log in self.logs),
            first_ms=min((log[log.first].ms for log in filled), default=None),
            last_ms=max((log[log.last].ms for log in filled), default=None),
            groups=tuple(self.groups[name].info() for name in sorted(self.groups)),
        )

    def ordinals(self, cursor: Cursor) -> list[int]:
        """The ordinal last read, per partition."""
        try:
            return [int(cursor.get(partition, "0")) for partition in self.spec.parts]
        except ValueError:
            raise ConfigError(
                f"{dict(cursor)} is no cursor of stream {self.spec.name!r}: take one from locate or read."
            ) from None

    @property
    def _share(self) -> int | None:
        """What one partition may keep of `max_events`."""
        bound = self.spec.max_events
        return None if bound is None else max(1, bound // len(self.spec.parts))

    def _full(self, log: Log) -> bool:
        return self._share is not None and len(log) >= self._share

    def _bound(self, log: Log) -> None:
        if self._share is not None and not self.spec.until_read:
            log.trim(log.last - self._share + 1)

    def _read_by_all(self, log: Log) -> int:
        desks = [group.desks[log.part[1]] for group in self.groups.values()]
        return min((desk.settled_up_to() for desk in desks), default=0)


class MemoryStore:
    """What engines share."""

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self._waiters: set[asyncio.Future[None]] = set()

    def declare(self, spec: StreamSpec) -> Stream:
        """The stream as it is stored, created if it is new."""
        if spec.name not in self.streams:
            self.streams[spec.name] = Stream(spec, self.notify)
        return self.streams[spec.name]

    def stream(self, name: str) -> Stream:
        """The stream, or `ConfigError`."""
        if name not in self.streams:
            raise ConfigError(f"stream {name!r} is not declared on the memory engine; declare it first.")
        return self.streams[name]

    def notify(self) -> None:
        """Wake all who wait."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def changed(self, seconds: float) -> None:
        """Wait until something changes, at most so long."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=seconds)
        finally:
            self._waiters.discard(waiter)


def now_ms() -> int:
    """Unix milliseconds."""
    return int(time.time() * 1000)
