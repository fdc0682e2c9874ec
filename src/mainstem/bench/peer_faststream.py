"""
FastStream on Redis Streams at its best documented settings: batches of up to 500 and publishing through a pipeline.

Two ways to decode are measured and the better one counts: typed handlers (pydantic, the default), and
`apply_types=False` with a msgspec decoder. An event is one JSON document, as FastStream keeps it.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from pydantic import BaseModel

from mainstem.bench import payload
from mainstem.bench.peer_redis import Latencies, at_pace
from mainstem.bench.program import Job, quantiles, settle_memory

BATCH = 500
_decode_batch = msgspec.json.Decoder(list[payload.Entry]).decode


class Customer(BaseModel):
    id: str
    name: str


class Item(BaseModel):
    sku: str
    qty: int
    price: float


class Order(BaseModel):
    orderId: str  # noqa: N815 - as in the JSON
    customer: Customer
    items: list[Item]
    total: float
    currency: str
    note: str


class Chain(BaseModel):
    correlation_id: str
    causation_id: str
    user_id: str


class Event(BaseModel):
    id: str
    type: str
    source: str
    time: str
    key: str
    data: Order
    metadata: Chain


async def producer(job: Job) -> dict[str, float]:
    """Publish through a pipeline, for a consumer in another process."""
    items = [payload.entry(number) for number in range(job.count)]
    broker = _broker(job)
    client = await broker.connect()
    settle_memory()
    started = time.monotonic()
    for first in range(0, job.count, BATCH):
        pipe = client.pipeline(transaction=False)
        for item in items[first : first + BATCH]:
            await broker.publish(payload.encode(item), stream=job.stream, pipeline=pipe)
        await pipe.execute()
    await broker.stop()
    return {"started": started}


async def typed_batches(job: Job) -> dict[str, float]:
    """A batch handler that declares its types."""
    seen = Seen(job.count)

    async def handle(events: list[Event]) -> None:
        seen.note(len(events), sum(event.data.total for event in events))

    handle.__annotations__["events"] = list[Event]  # FastStream cannot resolve the text of it in a local function
    return await _consume(job, seen, handle, batch=True)


async def bare_batches(job: Job) -> dict[str, float]:
    """A batch handler without type checks, decoded by msgspec."""
    seen = Seen(job.count)

    async def decoder(message: Any) -> list[payload.Entry]:
        return _decode_batch(message.body)

    async def handle(events: Any) -> None:
        seen.note(len(events), sum(event.data.total for event in events))

    return await _consume(job, seen, handle, batch=True, decoder=decoder)


async def one_by_one(job: Job) -> dict[str, float]:
    """A handler for single events, decoded by msgspec."""
    seen = Seen(job.count)

    async def handle(event: Any) -> None:
        seen.note(1, event.data.total)

    return await _consume(job, seen, handle, batch=False, decoder=_one)


async def ticker(job: Job) -> dict[str, float]:
    """Publish at a steady pace, each event stamped with the moment before its publish."""
    broker = _broker(job)
    await broker.connect()
    settle_memory()

    async def publish(number: int) -> None:
        item = payload.entry(number, str(time.monotonic_ns()))
        await broker.publish(payload.encode(item), stream=job.stream)

    await at_pace(job, publish)
    await broker.stop()
    return {}


async def listener(job: Job) -> dict[str, float]:
    """How long after its publish each event reaches the handler."""
    late = Latencies(job.count)
    seen = Seen(job.count)

    async def handle(event: Any) -> None:
        late.note(event.data)
        seen.note(1, event.data.total)

    await _consume(job, seen, handle, batch=False, decoder=_one)
    return quantiles(late.samples)


class Seen:
    """Counts what a handler was given, and knows when that was all."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._left = expected
        self._total = 0.0
        self._ended = 0.0
        self._done = asyncio.Event()

    def note(self, events: int, total: float) -> None:
        """Called by the handler."""
        self._total += total
        self._left -= events
        if self._left <= 0:
            self._ended = time.monotonic()
            self._done.set()

    async def all(self) -> dict[str, float]:
        """Wait for the last one."""
        await self._done.wait()
        return {"ended": self._ended, "events": float(self._expected)}


async def _one(message: Any) -> payload.Entry:
    return payload.decode_entry(message.body)


async def _consume(
    job: Job,
    seen: Seen,
    handle: Callable[[Any], Awaitable[None]],
    *,
    batch: bool,
    decoder: Callable[[Any], Awaitable[Any]] | None = None,
) -> dict[str, float]:
    faststream = importlib.import_module("faststream.redis")
    broker = _broker(job, typed=decoder is None)
    options = {"decoder": decoder} if decoder else {}
    source = faststream.StreamSub(
        job.stream, group="bench", consumer="one", batch=batch, max_records=BATCH, last_id="0"
    )
    broker.subscriber(stream=source, **options)(handle)
    await broker.start()
    settle_memory()
    job.ready()
    figures = await seen.all()
    await broker.stop()
    return figures


def _broker(job: Job, *, typed: bool = True) -> Any:
    faststream = importlib.import_module("faststream.redis")
    # The default pool raises when a stall of the machine leaves many publishes waiting.
    return faststream.RedisBroker(job.url, apply_types=typed, logger=None, max_connections=1000)
