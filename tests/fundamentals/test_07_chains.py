"""What a handler returns is published to `to=`, as the next event of the same chain, under an id of its own."""

from __future__ import annotations

from typing import Any

import msgspec

from mainstem import Mainstem, Received
from waiting import wait_until


class Tick(msgspec.Struct):
    symbol: str
    price: float


class Alert(msgspec.Struct):
    symbol: str
    price: float


async def test_a_handler_answers_with_the_next_event() -> None:
    app = Mainstem()
    ticks, alerts = app.stream("ticks", Tick), app.stream("alerts", Alert)

    @app.subscribe(ticks, group="alerts", to=alerts)
    async def spike(event: Received[Tick]) -> Alert | None:
        return Alert(event.data.symbol, event.data.price) if event.data.price > 500 else None

    async with app.running():
        await ticks.publish(Tick("AAPL", 189.0))
        await ticks.publish(Tick("NVDA", 910.0))
        events = await wait_until(lambda: all_of(app))
        inputs = [event async for event in ticks.read()]

    (alert,) = events
    assert alert.data == Alert("NVDA", 910.0)
    assert alert.type == "Alert"
    assert alert.metadata.causation_id == alert.metadata.correlation_id == inputs[1].id


async def all_of(app: Mainstem) -> list[Received[Any]]:
    return [event async for event in app.stream("alerts", Alert).read()]
