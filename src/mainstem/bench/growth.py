"""
Whether cost grows with what is stored, handled or declared: the public front, with one size a process.

Figures are microseconds an operation, medians of some rounds; `runner` interleaves the sizes.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from mainstem import EventStream, Mainstem, Received
from mainstem.bench import payload
from mainstem.bench.ours import serving
from mainstem.bench.payload import Order
from mainstem.bench.program import Job, settle_memory
from mainstem.bench.raw import RawLink, preload
from mainstem.observability.monitor import StreamMonitor

BATCH = 1000
ROUNDS = 7
FEW_ROUNDS = 2  # of what takes long where it grows
LOOKS = 50  # of describe and of health, a round
ENOUGH = 100_000_000  # a bound that trims nothing here
GROUP = "bench"

Costs = defaultdict[str, list[float]]


async def memory(job: Job) -> dict[str, float]:
    """The resident memory of a process that publishes and handles, after a tenth of the events and after all."""
    app = Mainstem(job.url)
    stream = app.stream(job.stream, Order)
    handled = Handled()
    app.subscribe_batch(stream, group=GROUP)(handled.batch)
    figures: dict[str, float] = {"handled": float(job.count)}
    async with app, serving(app):
        for first in range(0, job.count, BATCH):
            await stream.publish_batch([payload.event(number) for number in range(first, first + BATCH)])
            if first % (10 * BATCH) == 0:
                await handled.reach(first + BATCH)
            if first + BATCH >= job.count // 10 and "rss_start_mb" not in figures:
                await handled.reach(first + BATCH)
                figures["rss_start_mb"] = _resident_mb()
        await handled.reach(job.count)
        figures["rss_end_mb"] = _resident_mb()
    return figures


async def entries(job: Job) -> dict[str, float]:
    """Publish, consume, describe and health on a stream of that many entries."""
    costs: Costs = defaultdict(list)
    async with Mainstem(job.url) as app:
        stream = app.stream(job.stream, Order, max_events=ENOUGH)
        await stream.open()
        with RawLink(job.url) as link:
            preload(link, [stream.name], job.size)
        async with stream.consume(GROUP, start="end"):
            pass  # the group exists from here on
        monitor = await _acquainted(app, stream)
        settle_memory()
        for _ in range(ROUNDS):
            events = [payload.event(number) for number in range(job.count)]
            begun = time.perf_counter()
            await stream.publish_batch(events)
            costs["publish"].append(_each(begun, job.count))
            costs["consume"].append(await _consume_by_hand(stream, job.count))
            await _look(monitor, stream, costs)
    return _medians(costs)


async def streams(job: Job) -> dict[str, float]:
    """Publish to that many streams in turn, consume all of them by one pattern, describe one, ask for its health."""
    costs: Costs = defaultdict(list)
    app = Mainstem(job.url)
    each = [app.stream(f"{job.stream}.{number}", Order) for number in range(job.size)]
    handled = Handled()
    app.subscribe_batch(app.pattern(f"{job.stream}.*", Order), group=GROUP)(handled.batch)
    async with app:
        await _in_turns(each, lambda stream: stream.open())
        monitor = await _acquainted(app, each[0])
        spread = [each[number % job.size] for number in range(job.count)]
        settle_memory()
        for _ in range(ROUNDS):
            costs["publish"].append(await _publish_in_turns(spread))
            await _look(monitor, each[0], costs)
        published = ROUNDS * job.count
        async with serving(app):
            await handled.reach(published)  # all are followed
            for _ in range(FEW_ROUNDS):
                begun = time.perf_counter()
                await _publish_in_turns(spread)
                published += job.count
                await handled.reach(published)
                costs["consume"].append(_each(begun, job.count))
    return _medians(costs)


class Handled:
    """A batch handler that counts, and can be waited for."""

    def __init__(self) -> None:
        self._count = 0
        self._moved = asyncio.Event()

    async def batch(self, events: Sequence[Received[Order]]) -> None:
        """The handler."""
        self._count += len(events)
        self._moved.set()

    async def reach(self, count: int) -> None:
        """Wait until as many have been handled."""
        while self._count < count:
            self._moved.clear()
            await self._moved.wait()


async def _consume_by_hand(stream: EventStream[Order], count: int) -> float:
    async with stream.consume(GROUP) as received:
        begun, left = time.perf_counter(), count
        async for item in received:
            await item.ack()
            left -= 1
            if not left:
                break
        return _each(begun, count)


async def _publish_in_turns(streams: Sequence[EventStream[Order]]) -> float:
    begun = time.perf_counter()
    await _in_turns(streams, lambda stream: stream.publish(payload.event(0)))
    return _each(begun, len(streams))


async def _in_turns(
    streams: Sequence[EventStream[Order]], act: Callable[[EventStream[Order]], Awaitable[object]]
) -> None:
    for first in range(0, len(streams), BATCH):
        await asyncio.gather(*(act(stream) for stream in streams[first : first + BATCH]))


async def _acquainted(app: Mainstem, stream: EventStream[Order]) -> StreamMonitor:
    """A monitor that has seen the stream once: only its first look waits a second for something to compare with."""
    monitor = StreamMonitor(app)
    await monitor.get_stream_health(stream.name)
    return monitor


async def _look(monitor: StreamMonitor, stream: EventStream[Order], costs: Costs) -> None:
    begun = time.perf_counter()
    for _ in range(LOOKS):
        await stream.describe()
    costs["describe"].append(_each(begun, LOOKS))
    begun = time.perf_counter()
    for _ in range(LOOKS):
        await monitor.get_stream_health(stream.name)
    costs["health"].append(_each(begun, LOOKS))


def _each(begun: float, count: int) -> float:
    return (time.perf_counter() - begun) / count * 1e6


def _medians(costs: Costs) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in costs.items()}


def _resident_mb() -> float:
    gc.collect()
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # no present figure elsewhere: the peak bounds it
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
