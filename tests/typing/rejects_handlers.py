"""What a type checker must refuse: each line marked with an E, and no other."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mainstem import Mainstem, Received


class Tick(msgspec.Struct):
    symbol: str
    price: float


class Alert(msgspec.Struct):
    symbol: str


app = Mainstem()
ticks = app.stream("market.ticks", Tick, key=lambda tick: tick.symbol)
alerts = app.stream("alerts", Alert)


@app.subscribe(ticks, group="a", to=alerts)  # E
async def wrong_output(event: Received[Tick]) -> int:
    return 1


@app.subscribe(ticks, group="a")  # E
async def answers_nobody(event: Received[Tick]) -> Alert:
    return Alert(event.data.symbol)


@app.subscribe(ticks, group="a")  # E
async def wrong_input(event: Received[int]) -> None: ...


@app.subscribe(ticks, group="a")  # E
async def one_at_a_time(events: Sequence[Received[Tick]]) -> None: ...


@app.subscribe_batch(ticks, group="archive", size=500)  # E
async def wrong_shape(event: Received[Tick]) -> None: ...


@app.subscribe_batch(ticks, group="archive", size=500)  # E
async def wrong_element(events: Sequence[Received[Alert]]) -> None: ...


async def misuses(event: Received[Tick]) -> None:
    await ticks.publish(Alert("AAPL"))  # E
    await ticks.publish_batch([Alert("AAPL")])  # E
    event.data = Tick("AAPL", 1.0)  # E
    print(event.data.volume)  # E
    app.stream("x", Tick, key=lambda tick: tick.volume)  # E
