"""What tests of Redis queues share: engines that end with the test, streams, events by name, and a raw client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import redis

from mainstem.engine import Delivery, Done, GroupSpec, Part, Record, Signal, StreamSpec
from mainstem.engines.redis import RedisEngine, open_engine
from mainstem.engines.redis.address import parse
from mainstem.engines.redis.lease import client_of
from mainstem.engines.redis.member import RedisMember

NO_PARTS: frozenset[Part] = frozenset()


def record(name: str, size: int = 0) -> Record:
    return Record(name.encode(), b"t", b"/test", b"2026-11-24T10:00:00.000Z", b"", b'"' + b"x" * size + b'"', b"")


def names(deliveries: Sequence[Delivery]) -> list[str]:
    return [each.record.id.decode() for each in deliveries]


@dataclass(slots=True)
class Reader:
    """A member, what it received, and what it was told."""

    member: RedisMember
    seen: list[Delivery] = field(default_factory=list[Delivery])
    signals: list[Signal] = field(default_factory=list[Signal])

    async def some(self, limit: int = 100, wait: float = 1.0) -> list[Delivery]:
        got = await self.member.receive(limit, wait, NO_PARTS)
        deliveries = [each for each in got if isinstance(each, Delivery)]
        self.seen += deliveries
        self.signals += [each for each in got if not isinstance(each, Delivery)]
        return deliveries

    async def get(self, count: int, within: float = 8.0, limit: int = 100) -> list[Delivery]:
        found: list[Delivery] = []
        deadline = time.monotonic() + within
        while len(found) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} within {within} s"
            found += await self.some(min(limit, count - len(found)), 0.2)
        return found

    async def told(self, kind: type[Signal], within: float = 8.0) -> list[Signal]:
        """The signals of one kind, once there is one."""
        deadline = time.monotonic() + within
        while not any(isinstance(each, kind) for each in self.signals):
            assert time.monotonic() < deadline, f"no {kind.__name__} within {within} s: {self.signals}"
            await self.some(100, 0.1)
        return [each for each in self.signals if isinstance(each, kind)]

    async def done(self, *deliveries: Delivery) -> list[Delivery]:
        return list(await self.member.settle([Done(each) for each in deliveries]))


class Lab:
    """One server as a test sees it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.raw = client_of(parse(url))
        self.engines: list[RedisEngine] = []

    async def engine(self) -> RedisEngine:
        engine = await open_engine(self.url)
        self.engines.append(engine)
        return engine

    async def reader(
        self, *specs: StreamSpec, engine: RedisEngine | None = None, group: str = "g", lease: float = 10.0
    ) -> Reader:
        member = await (engine or self.engines[0]).join(GroupSpec(name=group, lease=lease))
        await member.follow(specs)
        return Reader(member)

    async def publish(self, spec: StreamSpec, *events: str, size: int = 0) -> list[str]:
        part = (spec.name, 0)
        outcomes = await self.engines[0].publish([(part, record(each, size)) for each in events], 5.0)
        assert all(isinstance(each, str) for each in outcomes), outcomes
        return [str(each) for each in outcomes]

    def crash(self, engine: RedisEngine) -> None:
        """As if its process had died."""
        engine.abort()
        self.engines.remove(engine)

    def pending(self, spec: StreamSpec, group: str = "g") -> list[dict[str, object]]:
        reply = self.raw.xpending_range(spec.name, group, "-", "+", 10_000)
        return list(reply)  # type: ignore[arg-type]


@asynccontextmanager
async def lab_on(url: str) -> AsyncIterator[Lab]:
    lab = Lab(url)
    await lab.engine()
    try:
        yield lab
    finally:
        for engine in lab.engines:
            await engine.close()
        lab.raw.close()
        await asyncio.sleep(0)


def sync(url: str) -> redis.Redis:
    return client_of(parse(url))
