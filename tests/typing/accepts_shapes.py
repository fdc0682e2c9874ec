"""Every shape of handler that may be written, and that no type of the public API dissolves into Any."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, assert_type

import msgspec

from mainstem import (
    BatchFailed,
    Context,
    EventStream,
    Mainstem,
    MainstemError,
    Metadata,
    Received,
    Reject,
    Retry,
    RetryLater,
    Skip,
    StreamEvent,
    StreamPattern,
)
from mainstem.consumption import Consumption, Item
from mainstem.engine import StreamInfo
from mainstem.observability.monitor import LagAlert, StreamMetrics, StreamMonitor
from mainstem.reading import Reading


class Tick(msgspec.Struct):
    symbol: str
    price: float


@dataclass(frozen=True)
class Alert:
    symbol: str


app = Mainstem("memory://", publish_deadline="5s", drain=3.0, event_limit=1000)
ticks = app.stream("ticks", Tick, key=lambda tick: tick.symbol, partitions=4, retain="7d", max_events=100)
alerts = app.stream("alerts", Alert, retain="until-read")
raw = app.stream("raw", bytes)
numbers = app.stream("numbers", int)
rows = app.stream("rows", dict[str, float])
news = app.pattern("news.*", Tick)

assert_type(raw, EventStream[bytes])
assert_type(numbers, EventStream[int])
assert_type(rows, EventStream[dict[str, float]])
assert_type(news, StreamPattern[Tick])
assert_type(app.pattern("any.*"), StreamPattern[Any])
assert_type(ticks.name, str)


# Single events: sync and async, with and without a Context, with and without a result


@app.subscribe(ticks, group="1")
def sync_plain(event: Received[Tick]) -> None:
    assert_type(event, Received[Tick])


@app.subscribe(ticks, group="2")
def sync_context(event: Received[Tick], ctx: Context) -> None:
    assert_type(ctx.attempt, int)
    assert_type(ctx.lease_lost, bool)


@app.subscribe(ticks, group="3")
async def async_context(event: Received[Tick], ctx: Context) -> None:
    ctx.logger.info("%s", event.data.symbol)


@app.subscribe(ticks, group="4", to=alerts)
def sync_answers(event: Received[Tick]) -> Alert | None:
    return None if event.data.price > 1 else Alert(event.data.symbol)


@app.subscribe(ticks, group="5", to=alerts)
def sync_answers_with_context(event: Received[Tick], ctx: Context) -> Alert:
    return Alert(event.data.symbol)


@app.subscribe(ticks, group="6", to=alerts)
async def async_answers_with_context(event: Received[Tick], ctx: Context) -> Alert | None:
    return None


@app.subscribe(news, group="7", to=alerts, concurrency=8, timeout="5s", retry=Retry(3, base="1s"), start="end", lease=2)
async def on_a_pattern(event: Received[Tick]) -> Alert:
    assert_type(event.stream, str)
    raise RetryLater("5m")


@app.subscribe(ticks, group="8")
async def takes_anything(event: Received[Any]) -> None:
    raise Reject("no")


@app.subscribe(ticks, group="9")
async def takes_an_object(event: StreamEvent[object]) -> None:
    raise Skip


class Service:
    async def handle(self, event: Received[Tick]) -> None: ...


app.subscribe(ticks, group="10")(Service().handle)
app.subscribe(raw, group="11")(lambda event: print(len(event.data)))


# Batches


@app.subscribe_batch(ticks, group="20")
def sync_batch(events: Sequence[Received[Tick]]) -> None:
    raise BatchFailed({events[0].position: ValueError()})


@app.subscribe_batch(ticks, group="21", size=10, max_wait=0.1)
async def async_batch_context(events: Sequence[Received[Tick]], ctx: Context) -> None:
    assert_type(events[0].data, Tick)


@app.subscribe_batch(ticks, group="22")
def sync_batch_context(events: Sequence[Received[Tick]], ctx: Context) -> None: ...


@app.subscribe_batch(news, group="23")
async def batch_of_a_pattern(events: Sequence[Received[Tick]]) -> None: ...


# Decorators keep the handler's type

as_sync: Callable[[Received[Tick]], None] = sync_plain
as_sync_context: Callable[[Received[Tick], Context], None] = sync_context
as_async_context: Callable[[Received[Tick], Context], Awaitable[None]] = async_context
as_sync_answer: Callable[[Received[Tick]], Alert | None] = sync_answers
as_async_answer: Callable[[Received[Tick], Context], Awaitable[Alert | None]] = async_answers_with_context
as_sync_batch: Callable[[Sequence[Received[Tick]]], None] = sync_batch
as_async_batch: Callable[[Sequence[Received[Tick]], Context], Awaitable[None]] = async_batch_context


def called_by_hand(event: Received[Tick], ctx: Context) -> None:
    assert_type(sync_answers(event), Alert | None)
    sync_context(event, ctx)
    sync_batch([event])


@app.middleware
async def around(event: Received[Any], call_next: Callable[[], Awaitable[Any]]) -> Any:
    return await call_next()


@app.lifespan
async def resources(running: Mainstem) -> AsyncGenerator[dict[str, int], None]:
    yield {"pool": 1}


# As a library


async def publishes() -> None:
    assert_type(await ticks.publish_batch([Tick("A", 1.0), StreamEvent(data=Tick("B", 2.0))]), list[str])
    assert_type(await ticks.try_publish_batch([Tick("A", 1.0)]), list[str | MainstemError])
    await ticks.publish(StreamEvent(data=Tick("A", 1.0), time=datetime.now(UTC), metadata=Metadata(user_id="u")))
    await raw.publish(b"x")


async def consumes() -> None:
    async with ticks.consume("g", start="end", lease="5s") as received:
        assert_type(received, Consumption[Tick])
        async for item in received:
            assert_type(item, Item[Tick])
            assert_type(item.data, Tick)
            assert_type(item.event, Received[Tick])
            await item.ack()
            await item.release(after="5s")
            await item.reject("no")


async def reads() -> None:
    reading = ticks.read(start=datetime.now(UTC), follow=True)
    assert_type(reading, Reading[Tick])
    assert_type(reading.cursor, str)
    assert_type(await anext(reading), Received[Tick])
    assert_type(await ticks.describe(), StreamInfo)


async def chains(event: Received[Tick]) -> None:
    following = event.caused(data=Alert("A"), type="alert")
    assert_type(following, StreamEvent[Alert])
    await alerts.publish(following)
    assert_type(event.recorded, datetime)
    assert_type(event.key, str | None)
    assert_type(event.metadata, Metadata)


async def watches() -> None:
    watch = StreamMonitor(app)
    assert_type(await watch.get_stream_health("ticks"), StreamMetrics)
    assert_type(await watch.get_all("t*"), Sequence[StreamMetrics])

    async def page(alert: LagAlert) -> None: ...

    await watch.alert_on_lag("ticks", 100, page, to=app.stream("alerts.lag"))
    await watch.alert_on_lag("ticks", 100, lambda alert: print(alert.lag))


async def tries() -> None:
    async with app.testing() as trial, Mainstem("memory://") as other:
        assert_type(other, Mainstem)
        assert_type(await trial.publish(ticks, Tick("A", 1.0)), list[str])
        await trial.quiet()


# What the parts of a typed event are, is known: an attribute that is not there would be an error, see rejects_shapes.py
class Wrapped(msgspec.Struct):
    inner: Tick


wrapped = app.stream("wrapped", Wrapped)


@app.subscribe(wrapped, group="30")
async def nested(event: Received[Wrapped]) -> None:
    assert_type(event.data.inner.price, float)
