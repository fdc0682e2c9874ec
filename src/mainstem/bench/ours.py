"""
The same works as a user of mainstem writes them: the public front only, with its defaults.

Nothing here is tuned that a user could not write; where a work needs a setting, it is an argument of the public API.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from mainstem import EventStream, Mainstem, Received, StreamEvent
from mainstem.bench import payload
from mainstem.bench.payload import Order
from mainstem.bench.peer_redis import TASKS, Latencies, at_pace
from mainstem.bench.program import Clock, Job, quantiles, settle_memory
from mainstem.bench.raw import RawLink, preload

BATCH = 1000
IN_FLIGHT = 2
SIZE = 500
PARTITIONS = 16
GROUP = "bench"


async def publish(job: Job) -> dict[str, float]:
    """Explicit batches."""
    events = [payload.event(number) for number in range(job.count)]
    async with Mainstem(job.url) as app:
        stream = app.stream(job.stream, Order)
        await stream.open()
        clock = Clock(job.count)
        clock.start()
        await _publish_all(stream, events)
        return clock.stop()


async def awaiting(job: Job) -> dict[str, float]:
    """1,000 tasks that publish one event after the other, each awaited."""
    events = iter([payload.event(number) for number in range(job.count)])
    async with Mainstem(job.url) as app:
        stream = app.stream(job.stream, Order)
        await stream.open()

        async def publish_one_after_the_other() -> None:
            for event in events:
                await stream.publish(event)

        clock = Clock(job.count)
        clock.start()
        await asyncio.gather(*(publish_one_after_the_other() for _ in range(TASKS)))
        return clock.stop()


async def consume(job: Job) -> dict[str, float]:
    """A batch handler on a preloaded stream: read, decode, handle, acknowledge."""
    app = Mainstem(job.url)
    stream = app.stream(job.stream, Order)
    left = job.count
    total = 0.0
    done = asyncio.Event()

    @app.subscribe_batch(stream, group=GROUP, size=SIZE)
    async def handle(events: Sequence[Received[Order]]) -> None:
        nonlocal left, total
        total += sum(event.data.total for event in events)
        left -= len(events)
        if left <= 0:
            done.set()

    async with app:
        await stream.open()
        with RawLink(job.url) as link:
            preload(link, [job.stream], job.count)
        clock = Clock(job.count)
        clock.start()
        async with serving(app):
            await done.wait()
            return clock.stop()  # before the group is left: that is no part of the work


async def producer(job: Job) -> dict[str, float]:
    """Explicit batches, for a consumer in another process."""
    async with Mainstem(job.url) as app:
        return await _produce(job, app.stream(job.stream, Order))


async def keyed_producer(job: Job) -> dict[str, float]:
    """The same into 16 partitions."""
    async with Mainstem(job.url) as app:
        return await _produce(job, _keyed(app, job))


async def consumer(job: Job) -> dict[str, float]:
    """An async handler, one call an event; done when all have been handled."""
    app = Mainstem(job.url)
    return await _handle_each(job, app, app.stream(job.stream, Order), check=False)


async def queue_consumer(job: Job) -> dict[str, float]:
    """The same with the handler that keyed mode is given."""
    app = Mainstem(job.url)
    return await _handle_each(job, app, app.stream(job.stream, Order), check=True)


async def keyed_consumer(job: Job) -> dict[str, float]:
    """The same from 16 partitions, order per key checked by the same handler."""
    app = Mainstem(job.url)
    return await _handle_each(job, app, _keyed(app, job), check=True)


async def ticker(job: Job) -> dict[str, float]:
    """Publish at a steady pace, each event stamped with the moment before its publish."""
    async with Mainstem(job.url) as app:
        stream = app.stream(job.stream, Order)
        await stream.open()
        settle_memory()

        async def publish_one(number: int) -> None:
            await stream.publish(payload.event(number, str(time.monotonic_ns())))

        await at_pace(job, publish_one)
        return {}


async def listener(job: Job) -> dict[str, float]:
    """How long after its publish each event reaches the handler."""
    app = Mainstem(job.url)
    late = Latencies(job.count)
    done = asyncio.Event()

    @app.subscribe(app.stream(job.stream, Order), group=GROUP)
    async def handle(event: Received[Order]) -> None:
        late.note(event.data)
        if late.complete:
            done.set()

    async with app, serving(app):
        settle_memory()
        job.ready()
        await done.wait()
    return quantiles(late.samples)


@asynccontextmanager
async def serving(app: Mainstem) -> AsyncGenerator[None, None]:
    """The app's subscriptions run inside the block, as `app.run()` runs them in a process of its own."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(app.serve(stop))
        try:
            yield
        finally:
            stop.set()


async def _publish_all(stream: EventStream[Order], events: Sequence[StreamEvent[Order]]) -> None:
    starts = iter(range(0, len(events), BATCH))

    async def publish_batches() -> None:
        for start in starts:
            await stream.publish_batch(events[start : start + BATCH])

    await asyncio.gather(*(publish_batches() for _ in range(IN_FLIGHT)))


async def _produce(job: Job, stream: EventStream[Order]) -> dict[str, float]:
    events = [payload.event(number) for number in range(job.count)]
    await stream.open()
    settle_memory()
    started = time.monotonic()
    await _publish_all(stream, events)
    return {"started": started}


class Tally:
    """Handlers that look at the data and count, as the peers' do; `checked` watches the order of each key as well."""

    def __init__(self, expected: int) -> None:
        self.done = asyncio.Event()
        self._last: dict[str | None, str] = {}
        self._expected = self._left = expected
        self._disorder = 0
        self._ended = self._total = 0.0

    async def plain(self, event: Received[Order]) -> None:
        """For comparisons with peers."""
        self._total += event.data.total
        self._left -= 1
        if not self._left:
            self._ended = time.monotonic()
            self.done.set()

    async def checked(self, event: Received[Order]) -> None:
        """For comparisons of modes."""
        number = event.data.order_id
        self._disorder += self._last.get(event.key, "") >= number
        self._last[event.key] = number
        await self.plain(event)

    def figures(self) -> dict[str, float]:
        """When the last was handled, and how many came out of their key's order."""
        return {"ended": self._ended, "events": float(self._expected), "disorder": float(self._disorder)}


async def _handle_each(job: Job, app: Mainstem, stream: EventStream[Order], *, check: bool) -> dict[str, float]:
    tally = Tally(job.count)
    app.subscribe(stream, group=GROUP)(tally.checked if check else tally.plain)
    async with app, serving(app):
        settle_memory()
        job.ready()
        await tally.done.wait()
    return tally.figures()


def _keyed(app: Mainstem, job: Job) -> EventStream[Order]:
    return app.stream(job.stream, Order, key=_key_of, partitions=PARTITIONS)


def _key_of(order: Order) -> str:
    return payload.key(int(order.order_id[2:]))
