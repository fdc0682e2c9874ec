"""A keyed stream keeps the events of each key in order, however many handlers run at once, and while one is retried."""

from __future__ import annotations

import asyncio
import random

import msgspec

from mainstem import Mainstem, Received, Retry
from waiting import wait_until


class Tick(msgspec.Struct):
    symbol: str
    n: int


async def test_each_key_in_order_with_sixteen_handlers_at_once() -> None:
    app = Mainstem()
    ticks = app.stream("ticks", Tick, key=lambda tick: tick.symbol, partitions=4)
    seen: dict[str, list[int]] = {}
    failed: set[tuple[str, int]] = set()
    running = most = 0

    @app.subscribe(ticks, group="prices", concurrency=16, retry=Retry(3, base="20ms"))
    async def price(event: Received[Tick]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(random.uniform(0, 0.003))
        running -= 1
        if event.data.n == 3 and (event.data.symbol, 3) not in failed:
            failed.add((event.data.symbol, 3))
            raise TimeoutError("once")
        seen.setdefault(event.data.symbol, []).append(event.data.n)

    symbols = [f"S{number}" for number in range(20)]
    async with app.running():
        await ticks.publish_batch([Tick(symbol, n) for n in range(10) for symbol in symbols])
        await wait_until(lambda: sum(map(len, seen.values())) == 200, timeout=15)

    assert seen == {symbol: list(range(10)) for symbol in symbols}
    assert len(failed) == 20
    assert most > 4
