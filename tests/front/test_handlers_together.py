"""Handlers beside each other through the public API: concurrency, order per key, middleware, resources, patterns."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from front.lab import served
from mainstem import (
    Context,
    Mainstem,
    Received,
    Retry,
)
from waiting import wait_until

QUICK = Retry(3, base="10ms", cap="20ms")


async def test_concurrency_is_as_many_as_it_says_and_no_more(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)
    now, most = 0, 0
    all_there = asyncio.Event()

    @app.subscribe(stream, group="g", concurrency=8)
    async def handle(event: Received[Any]) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 8:
            all_there.set()
        await asyncio.wait_for(all_there.wait(), 5)
        await asyncio.sleep(0.001)
        now -= 1

    async with served(app) as running:
        await stream.publish_batch(list(range(60)))
        assert (await running.quiet(stream, "g")).dead == 0
    assert most == 8


async def test_a_key_keeps_its_order_also_behind_an_event_that_fails(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name, key=lambda data: str(data["key"]), partitions=4)
    done: dict[str, list[int]] = defaultdict(list)
    busy: set[str] = set()
    overlaps: list[str] = []

    @app.subscribe(stream, group="g", concurrency=64, retry=Retry(5, base="20ms", cap="40ms"))
    async def handle(event: Received[Any]) -> None:
        key, number = event.key, event.data["n"]
        assert key is not None
        if key in busy:
            overlaps.append(key)
        busy.add(key)
        try:
            await asyncio.sleep(0.0005 * (number % 3))
            if number % 7 == 0 and event.attempt < 3:
                raise ValueError("try again")
        finally:
            busy.discard(key)
        done[key].append(number)

    async with served(app) as running:
        await stream.publish_batch([{"key": n % 10, "n": n} for n in range(400)])
        group = await running.quiet(stream, "g", timeout=30)
    assert group.dead == 0
    assert overlaps == []
    assert dict(done) == {str(key): [n for n in range(400) if n % 10 == key] for key in range(10)}


async def test_other_keys_do_not_wait_for_a_failing_one(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name, partitions=2)
    done: list[str] = []
    release = asyncio.Event()

    @app.subscribe(stream, group="g", concurrency=4, retry=Retry(50, base="10ms", cap="10ms"))
    async def handle(event: Received[Any]) -> None:
        if event.key == "bad" and not release.is_set():
            raise ValueError("not yet")
        done.append(event.data)

    async with served(app) as running:
        await stream.publish("bad-1", key="bad")
        await stream.publish("bad-2", key="bad")
        for n in range(5):
            await stream.publish(f"good-{n}", key=f"good-{n}")
        await wait_until(lambda: len(done) == 5)
        assert sorted(done) == [f"good-{n}" for n in range(5)]
        release.set()
        await running.quiet(stream, "g")
    assert done[5:] == ["bad-1", "bad-2"]


async def test_middleware_stands_around_every_attempt_in_order(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)
    steps: list[str] = []

    def around(name: str) -> None:
        @app.middleware
        async def step(event: Received[Any], call_next: Callable[[], Awaitable[Any]]) -> Any:
            steps.append(f"{name} {event.attempt}")
            try:
                return await call_next()
            finally:
                steps.append(f"/{name}")

    around("outer")
    around("inner")

    @app.subscribe(stream, group="g", retry=QUICK)
    async def handle(event: Received[Any]) -> None:
        steps.append("handle")
        if event.attempt == 1:
            raise ValueError

    async with served(app) as running:
        await stream.publish(1)
        await running.quiet(stream, "g")
    once = ["handle", "/inner", "/outer"]
    assert steps == ["outer 1", "inner 1", *once, "outer 2", "inner 2", *once]


async def test_shared_resources_live_as_long_as_the_app_serves(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)
    life: list[str] = []
    told: list[Context] = []

    @app.lifespan
    async def resources(_: Mainstem) -> AsyncGenerator[dict[str, str], None]:
        life.append("opened")
        yield {"database": "here"}
        life.append("closed")

    @app.subscribe(stream, group="g")
    async def handle(event: Received[Any], context: Context) -> None:
        told.append(context)
        life.append("handled")

    async with served(app) as running:
        await stream.publish(1)
        await running.quiet(stream, "g")
    assert life == ["opened", "handled", "closed"]
    (context,) = told
    assert context.resources == {"database": "here"}
    assert (context.stream, context.group, context.handler, context.attempt) == (stream_name, "g", "handle", 1)
    assert context.logger.name == "mainstem.handler.handle"
    assert not context.lease_lost


async def test_a_pattern_takes_in_streams_that_come_while_it_runs(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    first = app.stream(f"{stream_name}.a")
    other = app.stream(f"other-{stream_name}.a")
    seen: list[tuple[str, int]] = []

    @app.subscribe(app.pattern(f"{stream_name}.*"), group="g")
    async def handle(event: Received[Any]) -> None:
        seen.append((event.stream.removeprefix(stream_name), event.data))

    async with served(app) as running:
        await first.publish(1)
        await other.publish(2)
        await wait_until(lambda: seen == [(".a", 1)])
        late = app.stream(f"{stream_name}.late", key=lambda data: str(data))
        await late.publish(3)
        await wait_until(lambda: len(seen) == 2, timeout=10)
        await running.quiet(late, "g")
    assert seen == [(".a", 1), (".late", 3)]


async def test_an_app_without_handlers_says_what_to_do(url: str) -> None:
    async with Mainstem(url) as app:
        with pytest.raises(Exception, match=r"has no subscriptions: decorate a handler with @app\.subscribe"):
            await app.serve(asyncio.Event())
