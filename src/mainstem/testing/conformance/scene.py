"""What the tests of the suite work with: engines, streams and members that are cleaned up. No test is here."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from mainstem.engine import (
    Abilities,
    Back,
    Dead,
    Delivery,
    Done,
    Engine,
    GroupInfo,
    GroupSpec,
    Member,
    Part,
    Record,
    Signal,
    StreamSpec,
)
from mainstem.testing.elsewhere import refused
from mainstem.testing.harness import Harness

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S")

BOTH = [0, 2]
"""Partitions of a queue and of a keyed stream: for tests that hold in both modes."""

SOON = 5.0
"""Seconds within which something that needs no lease to run out must have happened."""

_ABILITIES = {field: f"mainstem_requires_{field}" for field in Abilities.__dataclass_fields__}


def requires(*abilities: str) -> Callable[[F], F]:
    """The test runs only on engines that claim these fields of `Abilities`."""

    def mark(test: F) -> F:
        for ability in abilities:
            setattr(test, _ABILITIES[ability], True)
        return test

    return mark


def required(test: object) -> frozenset[str]:
    """The abilities that a test was marked with."""
    return frozenset(ability for ability, name in _ABILITIES.items() if getattr(test, name, False))


def missing(test: object, can: Abilities) -> list[str]:
    """The abilities that the test requires and the engine does not claim."""
    return sorted(ability for ability in required(test) if not getattr(can, ability))


def record(event_id: str, key: str = "", data: bytes = b"{}") -> Record:
    """A plain record."""
    return Record(event_id.encode(), b"test", b"conformance", b"2026-01-02T03:04:05Z", key.encode(), data, b"")


def strange_record(extra: tuple[bytes, ...]) -> Record:
    """A record with every byte, and an end of a command, in each of its fields."""
    odd = bytes(range(256)) + b"\r\n$-1\r\n"
    i, t, s, w, k, d, m = (bytes([n]) + odd for n in range(7))
    return Record(i, t, s, w, k, d, m, extra)


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    """The ids of what was delivered, in order."""
    return [each.record.id.decode() for each in deliveries]


async def until(condition: Callable[[], Awaitable[S]], what: str, within: float = SOON) -> S:
    """The first true value of the condition; fails, naming what was waited for and the last value."""
    end = time.monotonic() + within
    while True:
        value = await condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {within} s: {what} (last: {value!r})"
        await asyncio.sleep(0.01)


class Reader:
    """A member, and all that it received."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.deliveries: list[Delivery] = []
        self.signals: list[Signal] = []

    async def get(self, count: int, *, settle: bool = False, within: float = SOON) -> list[Delivery]:
        """Exactly so many deliveries, in time; `settle`: each is settled as done as soon as it is there."""
        got: list[Delivery] = []
        end = time.monotonic() + within
        while len(got) < count:
            assert time.monotonic() < end, f"{len(got)} of {count} events came within {within} s: {ids(got)}"
            new = await self.receive(count - len(got), 0.1)
            got += new
            if settle and new:
                fenced = await self.member.settle([Done(each) for each in new])
                assert not fenced, f"the owner's own settling was refused: {ids(fenced)}"
        return got

    async def receive(self, limit: int, wait: float, paused: frozenset[Part] = frozenset()) -> list[Delivery]:
        """One call; signals are kept aside."""
        found = await self.member.receive(limit, wait, paused)
        new = [each for each in found if isinstance(each, Delivery)]
        assert len(new) <= limit, f"asked for at most {limit} deliveries, got {len(new)}"
        self.deliveries += new
        self.signals += [each for each in found if not isinstance(each, Delivery)]
        return new

    async def nothing(self, seconds: float, paused: frozenset[Part] = frozenset()) -> None:
        """Nothing is delivered for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            new = await self.receive(100, min(0.1, seconds), paused)
            assert not new, f"nothing was to come, but these did: {ids(new)}"

    async def signalled(self, kind: type[S], count: int = 1, within: float = SOON) -> list[S]:
        """At least so many signals of the kind, in time; no event may come meanwhile."""

        async def enough() -> list[S]:
            new = await self.receive(100, 0.05)
            assert not new, f"only signals were to come, but these events did: {ids(new)}"
            found: list[S] = [each for each in self.signals if isinstance(each, kind)]
            return found if len(found) >= count else []

        return await until(enough, f"{count} {kind.__name__}", within)

    async def done(self, *deliveries: Delivery) -> list[Delivery]:
        """Settle as done; returns the fenced."""
        return list(await self.member.settle([Done(each) for each in deliveries]))

    async def refused(self, *deliveries: Delivery) -> list[Delivery]:
        """Settle as done what another owner has by now; returns what was refused."""
        return await refused(self.member, [Done(each) for each in deliveries])

    async def back(self, delivery: Delivery, after: float = 0.0, *, attempts: int = 0) -> None:
        fenced = await self.member.settle([Back(delivery, after, attempts)])
        assert not fenced

    async def dead(self, delivery: Delivery, cause: bytes = b'{"error":"x"}') -> None:
        fenced = await self.member.settle([Dead(delivery, cause)])
        assert not fenced


class Scene:
    """Engines on one store, and shorthands. `lease` is that of every group it makes."""

    def __init__(self, harness: Harness, engine: Engine) -> None:
        self.harness = harness
        self.engine = engine
        self.lease = harness.lease
        self.recovery = harness.lease + 2.0  # seconds within which a crashed member's events come again
        self.name = f"conf-{uuid.uuid4().hex[:12]}"
        self._numbers = itertools.count(1)
        self._engines = [engine]

    async def another(self) -> Engine:
        """One more engine on the same store, as another process would have."""
        engine = await self.harness.open()
        self._engines.append(engine)
        return engine

    def crash(self, engine: Engine) -> None:
        """The engine's process dies."""
        engine.abort()
        self._engines.remove(engine)

    async def linger(self) -> None:
        """An engine may collect what is settled for some milliseconds before it commits it: let it."""
        await asyncio.sleep(0.1)

    async def close(self) -> None:
        for engine in self._engines:
            await engine.close()

    def spec(self, partitions: int = 0, **more: Any) -> StreamSpec:
        """The specification of a stream that no other test uses."""
        return StreamSpec(name=f"{self.name}-{next(self._numbers)}", partitions=partitions, **more)

    async def stream(self, partitions: int = 0, **more: Any) -> StreamSpec:
        """The same, declared."""
        return await self.engine.declare(self.spec(partitions, **more))

    def group(self, name: str = "g", **more: Any) -> GroupSpec:
        return msgspec.structs.replace(GroupSpec(name=name, lease=self.lease), **more)

    async def reader(self, *streams: StreamSpec, engine: Engine | None = None, **group: Any) -> Reader:
        """A new member that follows the streams."""
        member = await (engine or self.engine).join(self.group(**group))
        await member.follow(streams)
        return Reader(member)

    async def publish(self, spec: StreamSpec, *records: Record) -> list[str]:
        """Publish, each to the partition of its key; returns the positions."""
        return await self.publish_to([((spec.name, partition_of(spec, each)), each) for each in records])

    async def publish_ids(self, spec: StreamSpec, *event_ids: str) -> list[str]:
        """Publish plain records of these ids, all to partition 0."""
        return await self.publish_to([((spec.name, 0), record(each)) for each in event_ids])

    async def publish_to(self, batch: Sequence[tuple[Part, Record]]) -> list[str]:
        """Publish each to the part that is named; returns the positions."""
        return [position(each) for each in await self.engine.publish(batch, SOON)]

    async def figures(self, spec: StreamSpec, group: str = "g") -> GroupInfo:
        """The group as `describe` shows it."""
        info = await self.engine.describe(spec.name)
        return next(each for each in info.groups if each.name == group)


def partition_of(spec: StreamSpec, record: Record) -> int:
    """Any fixed spreading will do: the engine stores what it is told."""
    return sum(record.key) % len(spec.parts)


def position(outcome: object) -> str:
    """The outcome of a publish that must have worked."""
    assert isinstance(outcome, str), f"publishing failed: {outcome!r}"
    return outcome
