"""
A service: typed data, order per symbol, and results as events of their own. Runs until Ctrl-C.

Start it twice to see two processes share the symbols; `mainstem tail spikes` shows what comes out.
"""

from collections.abc import AsyncGenerator

import msgspec

from mainstem import Mainstem, Received


class Tick(msgspec.Struct):
    symbol: str
    price: float


class Spike(msgspec.Struct):
    symbol: str
    rise: float


app = Mainstem()
ticks = app.stream("market.ticks", Tick, key=lambda tick: tick.symbol, retain="7d")
spikes = app.stream("spikes", Spike)
last: dict[str, float] = {}


@app.lifespan
async def some_prices(app: Mainstem) -> AsyncGenerator[None, None]:
    """Publishes a few prices, so that there is something to see."""
    await ticks.publish_batch([Tick("AAPL", 100.0), Tick("IBM", 50.0), Tick("AAPL", 107.5), Tick("IBM", 50.1)])
    yield


@app.subscribe(ticks, group="spikes", to=spikes, concurrency=16, timeout="5s")
async def spike(event: Received[Tick]) -> Spike | None:
    """The events of one symbol come one at a time and in order, so that `last` needs no lock."""
    tick = event.data
    before = last.get(tick.symbol, tick.price)
    last[tick.symbol] = tick.price
    rise = tick.price / before - 1
    return Spike(tick.symbol, rise) if rise > 0.05 else None


@app.subscribe(spikes, group="printer")
async def show(event: Received[Spike]) -> None:
    print(f"{event.data.symbol} rose by {event.data.rise:.1%}, says event {event.metadata.causation_id}")


if __name__ == "__main__":
    app.run()
