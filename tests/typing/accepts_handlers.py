"""Handlers and calls that a user should be able to write: both type checkers accept all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, assert_type

import msgspec

from mainstem import EventStream, Mainstem, Received, StreamEvent


class Tick(msgspec.Struct):
    symbol: str
    price: float


@dataclass(frozen=True)
class Alert:
    symbol: str


app = Mainstem()
ticks = app.stream("market.ticks", Tick, key=lambda tick: tick.symbol)
alerts = app.stream("alerts", Alert)
anything = app.stream("anything")

assert_type(ticks, EventStream[Tick])
assert_type(alerts, EventStream[Alert])


@app.subscribe(ticks, group="a", to=alerts)
async def may_answer(event: Received[Tick]) -> Alert | None:
    assert_type(event.data, Tick)
    return Alert(event.data.symbol) if event.data.price > 500 else None


@app.subscribe(ticks, group="a", to=alerts)
async def answers(event: Received[Tick]) -> Alert:
    return Alert(event.data.symbol)


@app.subscribe(ticks, group="a")
async def plain(event: StreamEvent[Tick]) -> None:
    assert_type(event.data.price, float)


@app.subscribe(ticks, group="a")
def in_a_thread(event: Received[Tick]) -> None:
    assert_type(event.data.price, float)


@app.subscribe(anything, group="a")
async def untyped(event: Received[Any]) -> None: ...


@app.subscribe_batch(app.pattern("news.*"), group="archive", size=500)
async def archive(events: Sequence[Received[Any]]) -> None: ...


@app.subscribe_batch(ticks, group="archive", size=500)
async def archive_ticks(events: Sequence[Received[Tick]]) -> None: ...


# A decorator keeps the handler's own type, so that it can be called and tested by itself.
kept: Callable[[Received[Tick]], Awaitable[Alert | None]] = may_answer


async def typed_through(event: Received[Tick]) -> str:
    answer = await may_answer(event)
    assert_type(answer, Alert | None)
    assert_type(event.position, str)
    assert_type(event.attempt, int)
    return answer.symbol if answer else ""


async def publishes() -> None:
    assert_type(await ticks.publish(Tick("AAPL", 189.2)), str)
    assert_type(await ticks.publish(Tick("AAPL", 189.2), key="AAPL", type="tick", source="feed"), str)
    await ticks.publish_batch([Tick("AAPL", 189.2)])


async def reads() -> AsyncIterator[float]:
    async for event in ticks.read(start="2h", limit=100):
        assert_type(event, Received[Tick])
        yield event.data.price
