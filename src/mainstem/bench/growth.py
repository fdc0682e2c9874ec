"""
Whether cost grows with what is stored, handled or declared: the public front, measured again at several sizes.

Figures are microseconds, named `operation:size`, medians of the rounds, with `:min` and `:max` beside them. Sizes are
visited in turn in each round, where they can stand side by side.
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
LOOKS = 20  # of describe and of health, a round
ENOUGH = 100_000_000  # a bound that trims nothing here
GROUP = "bench"

Costs = defaultdict[str, list[float]]


async def memory(job: Job) -> dict[str, float]:
    """The resident memory of a process that publishes and handles, after a tenth of the events and after all."""
    app = Mainstem(job.url)
    stream = app.stream(job.stream, Order)
    handled = Handled()
    app.subscribe_batch(stream, group=GROUP)(handled.batch)
    figures: dict[str, float] = {}
    async with app, serving(app):
        for first in range(0, job.count, BATCH):
            await stream.publish_batch([payload.event(number) for number in range(first, first + BATCH)])
            if first % (10 * BATCH) == 0:
                await handled.reach(first + BATCH)
            if first + BATCH >= job.count // 10 and not figures:
                await handled.reach(first + BATCH)
                figures["rss_start_mb"] = _resident_mb()
        await handled.reach(job.count)
        figures["rss_end_mb"] = _resident_mb()
    return figures


async def entries(job: Job) -> dict[str, float]:
    """Streams of several lengths side by side: publish, consume, describe and health on each."""
    costs: Costs = defaultdict(list)
    async with Mainstem(job.url) as app:
        streams = {size: app.stream(f"{job.stream}.{size}", Order, max_events=ENOUGH) for size in job.sizes}
        for size, stream in streams.items():
            await stream.open()
            with RawLink(job.url) as link:
                preload(link, [stream.name], size)
            async with stream.consume(GROUP, start="end"):
                pass  # the group exists from here on
        monitor = await _acquainted(app, list(streams.values()))
        settle_memory()
        for _ in range(job.rounds):
            for size, stream in streams.items():
                await _visit(monitor, stream, size, job.count, costs)
    return _medians(costs)


async def streams(job: Job) -> dict[str, float]:
    """One, a hundred, ten thousand streams followed by one pattern: events spread over all of them."""
    costs: Costs = defaultdict(list)
    for size in job.sizes:
        await _many(job, size, costs)
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


async def _visit(monitor: StreamMonitor, stream: EventStream[Order], size: int, count: int, costs: Costs) -> None:
    events = [payload.event(number) for number in range(count)]
    begun = time.perf_counter()
    await stream.publish_batch(events)
    costs[f"publish:{size}"].append(_each(begun, count))
    async with stream.consume(GROUP) as received:
        begun, left = time.perf_counter(), count
        async for item in received:
            await item.ack()
            left -= 1
            if not left:
                break
        costs[f"consume:{size}"].append(_each(begun, count))
    await _look(monitor, stream, size, costs)


async def _many(job: Job, size: int, costs: Costs) -> None:
    app = Mainstem(job.url)
    names = [f"{job.stream}.{size}.{number}" for number in range(size)]
    each = [app.stream(name, Order) for name in names]
    handled = Handled()
    app.subscribe_batch(app.pattern(f"{job.stream}.{size}.*", Order), group=GROUP)(handled.batch)
    async with app:
        await _in_turns(each, lambda stream: stream.open())
        async with serving(app):
            await _in_turns(each, lambda stream: stream.publish(payload.event(0)))
            await handled.reach(size)  # every stream is followed
            monitor = await _acquainted(app, each[:1])
            settle_memory()
            for round_ in range(1, job.rounds + 1):
                begun = time.perf_counter()
                spread = [each[number % size] for number in range(job.count)]
                await _in_turns(spread, lambda stream: stream.publish(payload.event(0)))
                costs[f"publish:{size}"].append(_each(begun, job.count))
                await handled.reach(size + round_ * job.count)
                costs[f"consume:{size}"].append(_each(begun, job.count))
                await _look(monitor, each[0], size, costs)


async def _in_turns(
    streams: Sequence[EventStream[Order]], act: Callable[[EventStream[Order]], Awaitable[object]]
) -> None:
    for first in range(0, len(streams), BATCH):
        await asyncio.gather(*(act(stream) for stream in streams[first : first + BATCH]))


async def _acquainted(app: Mainstem, streams: Sequence[EventStream[Order]]) -> StreamMonitor:
    """A monitor that has seen the streams once: only its first look waits a second for something to compare with."""
    monitor = StreamMonitor(app)
    await asyncio.gather(*(monitor.get_stream_health(stream.name) for stream in streams))
    return monitor


async def _look(monitor: StreamMonitor, stream: EventStream[Order], size: int, costs: Costs) -> None:
    begun = time.perf_counter()
    for _ in range(LOOKS):
        await stream.describe()
    costs[f"describe:{size}"].append(_each(begun, LOOKS))
    begun = time.perf_counter()
    for _ in range(LOOKS):
        await monitor.get_stream_health(stream.name)
    costs[f"health:{size}"].append(_each(begun, LOOKS))


def _each(begun: float, count: int) -> float:
    return (time.perf_counter() - begun) / count * 1e6


def _medians(costs: Costs) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, values in costs.items():
        figures[name] = statistics.median(values)
        figures[f"{name}:min"], figures[f"{name}:max"] = min(values), max(values)
    return figures


def _resident_mb() -> float:
    gc.collect()
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # no present figure elsewhere: the peak bounds it
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
