"""One member of one group on the memory engine. It holds no state of the group: that is in groups.py and desk.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from mainstem.engine import Delivery, GroupSpec, Incident, Part, Settled, Signal, StreamSpec
from mainstem.engines.memory.desk import Desk
from mainstem.engines.memory.groups import Group
from mainstem.engines.memory.store import MemoryStore, Stream, now_ms
from mainstem.errors import Unavailable


class MemoryMember:
    """Takes from the desks of the streams it follows, each in its turn."""

    def __init__(
        self, store: MemoryStore, spec: GroupSpec, number: int, forget: Callable[[MemoryMember], None]
    ) -> None:
        self.id = f"{number:08}"
        self.spec = spec
        self.held = 0
        self.expires = float("inf")
        self.signals: list[Signal] = []
        self._store = store
        self._forget = forget
        self._streams: dict[str, StreamSpec] = {}
        self._groups: dict[str, Group] = {}
        self._first = 0
        self._closed = ""

    async def follow(self, streams: Sequence[StreamSpec]) -> None:
        """Groups are created now, so that a group that starts at the end misses nothing published from here on."""
        self._check()
        wanted = {spec.name: spec for spec in streams}
        for name in [name for name in self._groups if name not in wanted]:
            self._groups.pop(name).exit(self)
        for spec in streams:
            group = self._store.declare(spec).group(self.spec.name, self.spec.start)
            group.enter(self)
            self._groups[spec.name] = group
        self._streams = wanted
        self._store.notify()

    async def receive(self, limit: int, wait: float, paused: frozenset[Part]) -> Sequence[Delivery | Signal]:
        """Nothing is awaited once something was taken, so a cancelled call has taken nothing."""
        end = time.monotonic() + wait
        while True:
            self._check()
            self.expires = float("inf")
            now = time.monotonic()
            found = self._collect(limit, paused, now)
            if found or now >= end:
                return found
            await self._store.changed(max(0.0, min(end, self._due(now)) - now))

    async def settle(self, items: Sequence[Settled]) -> Sequence[Delivery]:
        self._check()
        now, ms = time.monotonic(), now_ms()
        fenced = [item.delivery for item in items if not self._settle(item, now, ms)]
        self._store.notify()
        return fenced

    async def count(self, stream: str, handled: int, failed: int) -> None:
        group = self._store.stream(stream).group(self.spec.name, self.spec.start)
        group.handled += handled
        group.failed += failed

    async def yield_part(self, part: Part) -> None:
        self._check()
        if part[0] in self._groups:
            self._groups[part[0]].yield_part(self, part)

    async def leave(self) -> None:
        """Calling it again, or after the engine was closed, changes nothing."""
        if self._closed:
            return
        for group in self._groups.values():
            group.exit(self)
        self._groups.clear()
        self.stop("left its group")
        self._forget(self)

    def stop(self, why: str) -> None:
        """Refuse all further calls, and end the one that waits."""
        self._closed = why
        self._store.notify()

    def stall(self) -> None:
        """Let the lease run from now on, until the next `receive`."""
        self.expires = time.monotonic() + self.spec.lease
        self._store.notify()

    def has_room(self, size: int) -> bool:
        """One event may always be held, however big it is."""
        return self.held == 0 or self.held + size <= self.spec.max_bytes

    def _collect(self, limit: int, paused: frozenset[Part], now: float) -> list[Delivery | Signal]:
        found: list[Delivery | Signal] = []
        self._refresh()
        for group in self._groups.values():
            group.attend(self, now)
        taken = 0
        for group, desk in self._in_turn():
            if taken == limit:
                break
            if desk.part not in paused and group.may_take(self, desk):
                got = group.take(self, desk, limit - taken, now)
                taken += sum(isinstance(each, Delivery) for each in got)
                found += got
        signals, self.signals = self.signals, []
        return [*signals, *found]

    def _in_turn(self) -> Iterator[tuple[Group, Desk]]:
        desks = [(group, desk) for group in self._groups.values() for desk in group.desks]
        self._first = (self._first + 1) % max(1, len(desks))
        yield from desks[self._first :]
        yield from desks[: self._first]

    def _refresh(self) -> None:
        """Enter again where the group was deleted, or had buried this member."""
        for name, spec in self._streams.items():
            stream: Stream = self._store.declare(spec)
            stream.sweep()
            group = stream.group(self.spec.name, self.spec.start)
            if group is not self._groups[name]:
                self._groups[name] = group
                self.signals.append(Incident((name, 0), f"group {self.spec.name!r} was deleted; created it again"))
            if self.id not in group.members:
                group.enter(self)

    def _due(self, now: float) -> float:
        return min((group.due(now) for group in self._groups.values()), default=float("inf"))

    def _settle(self, item: Settled, now: float, ms: int) -> bool:
        stream, partition = item.delivery.part
        group = self._groups.get(stream)
        return group is not None and group.desks[partition].settle(self, item, now, ms)

    def _check(self) -> None:
        if self._closed:
            raise Unavailable(f"this member of group {self.spec.name!r} {self._closed}; join again to go on.")
