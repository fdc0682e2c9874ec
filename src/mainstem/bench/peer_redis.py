"""
What an engineer writes with redis-py alone, at its best documented settings: pipelines without transactions of 500
commands, reads of 500 entries, msgspec for the data, one XACK a batch, hiredis, and a coalescer for single publishes.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from mainstem.bench import payload
from mainstem.bench.payload import Entry
from mainstem.bench.program import Clock, Job, quantiles, settle_memory
from mainstem.bench.raw import RawLink, preload

BATCH = 500
TASKS = 1000
GROUP = "bench"

Handler = Callable[[Entry], Awaitable[None]]


def describe() -> str:
    """The settings, for the report."""
    return f"asyncio, hiredis, pipeline({BATCH}, transaction=False), COUNT {BATCH}, one XACK a batch, msgspec decoding"


class Coalescer:
    """Collects the publishes of many tasks and sends them in pipelines, one under way at a time."""

    def __init__(self, client: Any, stream: str) -> None:
        self._client = client
        self._stream = stream
        self._queue: list[tuple[Entry, asyncio.Future[Any]]] = []
        self._more = asyncio.Event()

    async def publish(self, item: Entry) -> Any:
        """Store one event and return its id."""
        stored: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append((item, stored))
        self._more.set()
        return await stored

    async def run(self) -> None:
        """Send for ever."""
        while True:
            await self._more.wait()
            batch, self._queue = self._queue, []
            self._more.clear()
            pipe = self._client.pipeline(transaction=False)
            for item, _ in batch:
                pipe.xadd(self._stream, payload.fields(item))
            for (_, stored), reply in zip(batch, await pipe.execute(), strict=True):
                stored.set_result(reply)


async def awaiting(job: Job) -> dict[str, float]:
    """1,000 tasks that publish one event after the other, each awaited."""
    items = iter([payload.entry(number) for number in range(job.count)])
    async with _client(job) as client:
        coalescer = Coalescer(client, job.stream)
        sender = asyncio.create_task(coalescer.run())

        async def publish_all() -> None:
            for item in items:
                await coalescer.publish(item)

        clock = Clock(job.count)
        clock.start()
        await asyncio.gather(*(publish_all() for _ in range(TASKS)))
        figures = clock.stop()
        sender.cancel()
        return figures


async def consume(job: Job) -> dict[str, float]:
    """Read, decode and acknowledge a preloaded stream."""
    with RawLink(job.url) as link:
        preload(link, [job.stream], job.count)
    handled = Handled(job.count)
    async with _client(job) as client:
        await client.xgroup_create(job.stream, GROUP, "0")
        clock = Clock(job.count)
        clock.start()
        await _follow(client, job.stream, handled.batch)
        return clock.stop()


async def producer(job: Job) -> dict[str, float]:
    """Publish in batches, for a consumer in another process."""
    items = [payload.entry(number) for number in range(job.count)]
    async with _client(job) as client:
        settle_memory()
        started = time.monotonic()
        for first in range(0, job.count, BATCH):
            pipe = client.pipeline(transaction=False)
            for item in items[first : first + BATCH]:
                pipe.xadd(job.stream, payload.fields(item))
            await pipe.execute()
        return {"started": started}


async def consumer(job: Job) -> dict[str, float]:
    """Give each event to an async handler; done when all have been handled."""
    handled = Handled(job.count)
    async with _client(job) as client:
        await client.xgroup_create(job.stream, GROUP, "0", mkstream=True)
        settle_memory()
        job.ready()
        await _follow(client, job.stream, handled.each)
        return handled.figures()


async def ticker(job: Job) -> dict[str, float]:
    """Publish at a steady pace, each event stamped with the moment before its publish."""
    async with _client(job) as client:
        settle_memory()

        async def publish(number: int) -> None:
            item = payload.entry(number, str(time.monotonic_ns()))
            await client.xadd(job.stream, payload.fields(item))

        await at_pace(job, publish)
        return {}


async def listener(job: Job) -> dict[str, float]:
    """How long after its publish each event reaches the handler."""
    late = Latencies(job.count)

    async def each(batch: Sequence[Entry]) -> bool:
        for item in batch:
            late.note(item.data)
        return late.complete

    async with _client(job) as client:
        await client.xgroup_create(job.stream, GROUP, "0", mkstream=True)
        settle_memory()
        job.ready()
        await _follow(client, job.stream, each)
        return quantiles(late.samples)


class Handled:
    """Handlers that look at the data and count, as ours do."""

    def __init__(self, expected: int) -> None:
        self._left = expected
        self._expected = expected
        self._total = 0.0
        self._ended = 0.0

    async def one(self, item: Entry) -> None:
        """The handler."""
        self._total += item.data.total
        self._left -= 1
        if not self._left:
            self._ended = time.monotonic()

    async def each(self, batch: Sequence[Entry]) -> bool:
        """One call an event; whether that was the last."""
        for item in batch:
            await self.one(item)
        return self._left <= 0

    async def batch(self, batch: Sequence[Entry]) -> bool:
        """One call a batch; whether that was the last."""
        self._total += sum(item.data.total for item in batch)
        self._left -= len(batch)
        return self._left <= 0

    def figures(self) -> dict[str, float]:
        """When the last was handled."""
        return {"ended": self._ended, "events": float(self._expected)}


class Latencies:
    """Collects the age of stamped events; shared by us and the peers, so that all are measured alike."""

    def __init__(self, expected: int) -> None:
        self.samples: list[float] = []
        self._expected = expected

    def note(self, data: payload.Order) -> None:
        """Called first thing in a handler."""
        self.samples.append((time.monotonic_ns() - int(data.note)) / 1e9)

    @property
    def complete(self) -> bool:
        """Whether every event has come."""
        return len(self.samples) >= self._expected


async def at_pace(job: Job, publish: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    """Start each publish at its due time whether or not the one before is done (open loop); raises the first error."""
    loop = asyncio.get_running_loop()
    begin = loop.time() + 0.05
    under_way: set[asyncio.Task[None]] = set()
    for number in range(job.count):
        wait = begin + number / job.rate - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        under_way.add(loop.create_task(publish(number)))
        for task in [task for task in under_way if task.done()]:
            under_way.remove(task)
            task.result()
    await asyncio.gather(*under_way)


async def _follow(client: Any, stream: str, handle: Callable[[Sequence[Entry]], Awaitable[bool]]) -> None:
    finished = False
    while not finished:
        found = await client.xreadgroup(GROUP, "one", {stream: ">"}, count=BATCH, block=1000)
        for _, entries in found:
            finished = await handle([payload.read(values) for _, values in entries])
            await client.xack(stream, GROUP, *[position for position, _ in entries])


def _client(job: Job) -> Any:
    redis = importlib.import_module("redis.asyncio")
    # The default pool raises when a stall of the machine leaves many publishes waiting; this one lets them wait.
    pool = redis.BlockingConnectionPool.from_url(job.url, max_connections=10, timeout=None)
    return redis.Redis.from_pool(pool)
