"""What a first review of the front found about handlers: each a test that failed before its fix."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, cast

import pytest

from front.lab import cause_of, served
from mainstem import (
    ConfigError,
    Mainstem,
    Received,
    Retry,
    RetryLater,
)
from mainstem.engines.memory import MemoryEngine, MemoryStore
from waiting import wait_until

ONCE_MORE = Retry(2, base=0, cap=0)


async def outcome(
    handler: Callable[..., Any], data: Sequence[Any], *, batch: bool = False, retry: Retry = ONCE_MORE
) -> list[tuple[Any, str]]:
    """The dead letters (data, error) after an app with this handler had these events."""
    app = Mainstem("memory://")
    stream = app.stream("s")
    if batch:
        app.subscribe_batch(stream, group="g", retry=retry)(handler)
    else:
        app.subscribe(stream, group="g", retry=retry)(handler)
    async with app.testing() as trial:
        await stream.publish_batch(data)
        await trial.quiet(5)
        return [(json.loads(one.record.data), cause_of(one).error) for one in await trial.dead_letters(stream, "g")]


# Handlers that do what strangers' code does


async def test_a_handler_that_is_cancelled_from_within_has_failed() -> None:
    seen: list[int] = []

    async def handle(event: Received[Any]) -> None:
        if event.data == 1:
            task = asyncio.create_task(asyncio.sleep(60))
            task.cancel()
            await task
        seen.append(event.data)

    assert await outcome(handle, [0, 1, 2]) == [(1, "CancelledError")]
    assert seen == [0, 2]


async def test_a_batch_handler_that_is_cancelled_from_within_has_failed() -> None:
    async def handle(events: Sequence[Received[Any]]) -> None:
        if any(event.data == 1 for event in events):
            raise asyncio.CancelledError

    assert await outcome(handle, [0, 1, 2], batch=True) == [(1, "CancelledError")]


async def test_a_sync_handler_that_runs_out_of_an_iterator_has_failed() -> None:
    def handle(event: Received[Any]) -> None:
        if event.data == 1:
            next(iter([]))

    assert await outcome(handle, [0, 1, 2]) == [(1, "RuntimeError")]


@pytest.mark.parametrize("sync", [False, True])
async def test_a_handler_that_calls_sys_exit_has_failed(sync: bool) -> None:
    def leave(event: Received[Any]) -> None:
        if event.data == 1:
            raise SystemExit(3)

    async def leave_async(event: Received[Any]) -> None:
        leave(event)

    assert await outcome(leave if sync else leave_async, [0, 1, 2]) == [(1, "SystemExit")]


async def test_an_async_handler_behind_a_plain_function_is_awaited() -> None:
    seen: list[int] = []

    async def handle(event: Received[Any]) -> None:
        seen.append(event.data)

    @functools.wraps(handle)
    def logged(event: Received[Any]) -> Coroutine[Any, Any, None]:
        return handle(event)

    assert await outcome(logged, [1, 2]) == []
    assert sorted(seen) == [1, 2]


async def test_an_error_whose_text_cannot_be_had_is_an_error_like_others() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async def handle(event: Received[Any]) -> None:
        raise Mute

    assert await outcome(handle, [1]) == [(1, "Mute")]


def test_a_generator_is_no_handler() -> None:
    app = Mainstem("memory://")

    async def handle(event: Received[Any]) -> AsyncIterator[int]:
        yield event.data

    def handle_sync(event: Received[Any]) -> Any:
        yield event.data

    for handler in (handle, handle_sync):
        with pytest.raises(ConfigError, match="is a generator, which nothing would run"):
            app.subscribe(app.stream("s"), group="g")(cast(Any, handler))


async def test_a_batch_that_fails_costs_its_good_events_no_attempt() -> None:
    calls: list[int] = []

    async def handle(events: Sequence[Received[Any]]) -> None:
        calls.append(len(events))
        if any(event.data == 1 for event in events):
            raise ValueError("poison")

    assert await outcome(handle, list(range(5)), batch=True, retry=Retry(1)) == [(1, "ValueError")]
    assert calls == [5, 1, 1, 1, 1, 1]


async def test_a_large_batch_that_fails_is_gone_through_at_once() -> None:
    async def handle(events: Sequence[Received[Any]]) -> None:
        if len(events) > 1:
            raise ValueError("one of you")

    begun = time.monotonic()
    assert await outcome(handle, list(range(200)), batch=True, retry=Retry()) == []
    assert time.monotonic() - begun < 3


async def test_events_that_wait_long_leave_room_for_others() -> None:
    app = Mainstem("memory://")
    stream = app.stream("s")
    seen: list[int] = []

    @app.subscribe(stream, group="g")
    async def handle(event: Received[Any]) -> None:
        if event.data < 20:
            raise RetryLater("1h")
        seen.append(event.data)

    async with app.testing():
        await stream.publish_batch(list(range(40)))
        await wait_until(lambda: seen == list(range(20, 40)), 5)


async def test_a_sync_handler_that_hangs_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    app = Mainstem("memory://", drain=0.2)
    stream = app.stream("s")
    begun, go = threading.Event(), threading.Event()

    @app.subscribe(stream, group="g")
    def handle(event: Received[Any]) -> None:
        begun.set()
        go.wait(30)

    async with served(app) as running:
        await stream.publish(1)
        await wait_until(begun.is_set)
        at = time.monotonic()
        try:
            assert await asyncio.wait_for(running.end(), 5) == 1
            assert time.monotonic() - at < 3
        finally:
            go.set()


async def test_what_failed_while_a_partition_is_handed_over_does_not_run_here_any_more() -> None:
    store = MemoryStore()
    runs: list[tuple[str, int]] = []
    failing, fail = asyncio.Event(), asyncio.Event()

    def build(name: str) -> tuple[Mainstem, Any]:
        app = Mainstem("memory://")
        stream = app.stream("s", key=lambda data: "k", partitions=2)

        @app.subscribe(stream, group="g", concurrency=2, retry=Retry(9, base="150ms", cap="150ms"))
        async def handle(event: Received[Any]) -> None:
            runs.append((name, event.attempt))
            if name == "first" and event.attempt == 1:
                failing.set()
                await fail.wait()
                raise ValueError("fails during the hand-over")

        return app, stream

    first, stream = build("first")
    second, _ = build("second")
    await first.open(MemoryEngine(store))
    stop = [asyncio.Event(), asyncio.Event()]
    serving = [asyncio.create_task(first.serve(stop[0]))]
    await stream.publish(1)
    await failing.wait()
    await second.open(MemoryEngine(store))
    serving.append(asyncio.create_task(second.serve(stop[1])))
    await asyncio.sleep(0.2)  # the newcomer asks for its share; whether it is this partition decides the quota
    fail.set()
    await wait_until(lambda: len(runs) > 1, 5)
    await asyncio.sleep(0.3)
    for each in stop:
        each.set()
    await asyncio.gather(*serving)
    await first.close()
    await second.close()
    assert len(runs) == 2, f"one owner at a time: {runs}"
