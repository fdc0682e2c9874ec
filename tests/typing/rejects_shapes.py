"""More that a type checker must refuse: each line marked with an E, and no other."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec

from mainstem import Context, EventStream, Mainstem, Received, StreamEvent


class Tick(msgspec.Struct):
    symbol: str
    price: float


class Alert(msgspec.Struct):
    symbol: str


app = Mainstem("memory://")
ticks = app.stream("ticks", Tick)
alerts = app.stream("alerts", Alert)
news = app.pattern("news.*", Tick)


@app.subscribe(ticks, group="a")  # E
def sync_wrong_input(event: Received[Alert]) -> None: ...


@app.subscribe(ticks, group="a", to=alerts)  # E
def sync_wrong_output(event: Received[Tick]) -> int:
    return 1


@app.subscribe(ticks, group="a", to=alerts)  # E
async def wrong_output_with_context(event: Received[Tick], ctx: Context) -> str:
    return ""


@app.subscribe(ticks, group="a")  # E
async def second_is_no_context(event: Received[Tick], ctx: int) -> None: ...


@app.subscribe(ticks, group="a")  # E
async def three(event: Received[Tick], ctx: Context, more: int) -> None: ...


@app.subscribe(ticks, group="a")  # E
async def none() -> None: ...


@app.subscribe(ticks, group="a")  # E
async def needs_a_keyword(event: Received[Tick], *, verbose: bool) -> None: ...


@app.subscribe(news, group="a")  # E
async def wrong_input_of_a_pattern(event: Received[Alert]) -> None: ...


@app.subscribe_batch(ticks, group="a")  # E
def sync_wrong_shape(event: Received[Tick]) -> None: ...


@app.subscribe_batch(ticks, group="a")  # E
async def batch_answers(events: Sequence[Received[Tick]]) -> Alert:
    return Alert("A")


@app.subscribe_batch(news, group="a")  # E
async def wrong_batch_of_a_pattern(events: Sequence[Received[Alert]]) -> None: ...


@app.subscribe(ticks, group="a")
async def kept(event: Received[Tick]) -> None: ...


wrong: Callable[[Received[Alert]], None] = kept  # E


@app.lifespan  # E
async def no_generator(running: Mainstem) -> None: ...


@app.lifespan  # E
async def wrong_argument(running: int) -> AsyncGenerator[None, None]:
    yield


async def misuses(event: Received[Tick], ctx: Context) -> None:
    kept(event, ctx)  # E
    await kept(Received[Alert](data=Alert("A"), stream="s", position="1", recorded_ms=1))  # E
    await ticks.publish(StreamEvent(data=Alert("A")))  # E
    await ticks.publish_batch(Tick("A", 1.0))  # E
    await ticks.publish(Tick("A", 1.0), key=5)  # E
    await ticks.read(start=5)  # E
    ctx.attempt = 2  # E
    event.stream = "x"  # E
    event.metadata.user_id = "x"  # E
    print(event.data.volume)  # E
    other: EventStream[Alert] = ticks  # E
    app.subscribe(ticks, group="a", concurency=2)  # E
    app.subscribe(ticks)  # E
    app.stream("x", Tick, key=lambda tick: 5)  # E
    async with ticks.consume("g") as received:
        async for item in received:
            print(item.data.volume)  # E
            item.ack(5)  # E
    async for read in ticks.read():
        print(read.data.volume)  # E
    print(other)
