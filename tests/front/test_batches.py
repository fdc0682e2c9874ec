"""Batch handlers: how a batch fills, and what becomes of its events when some or all of them fail."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from front.lab import cause_of, dead_letters, served
from mainstem import BatchFailed, ConfigError, Context, Mainstem, Received, Retry
from waiting import wait_until

QUICK = Retry(3, base="1ms", cap="2ms")


async def test_batches_are_as_large_as_they_may_be_and_lose_nothing(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)
    batches: list[list[int]] = []

    @app.subscribe_batch(stream, group="g", size=100, max_wait="200ms")
    async def handle(events: Sequence[Received[Any]]) -> None:
        batches.append([event.data for event in events])

    async with app:
        await stream.publish_batch(list(range(3)))
    async with served(app) as running:
        await stream.publish_batch(list(range(1000, 1450)))
        await running.quiet(stream, "g")
    assert max(map(len, batches)) <= 100
    assert any(len(batch) == 100 for batch in batches)
    seen = [number for batch in batches for number in batch]
    kept = [] if url == "memory://" else list(range(3))  # a memory engine begins empty
    assert sorted(seen) == kept + list(range(1000, 1450))


async def test_a_lonely_event_waits_no_longer_than_max_wait(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)
    seen: list[int] = []

    @app.subscribe_batch(stream, group="g", size=1000, max_wait="20ms")
    async def handle(events: Sequence[Received[Any]]) -> None:
        seen.append(len(events))

    async with served(app):
        await stream.publish(1)
        await wait_until(lambda: seen, timeout=2)
    assert seen == [1]


async def test_some_of_a_batch_fail_and_only_those_come_again(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)
    calls: list[list[tuple[int, int]]] = []

    @app.subscribe_batch(stream, group="g", size=10, max_wait="300ms", retry=QUICK)
    async def handle(events: Sequence[Received[Any]]) -> None:
        calls.append([(event.data, event.attempt) for event in events])
        failed = {event.position: ValueError(f"no {event.data}") for event in events if event.data in (3, 7)}
        if failed:
            raise BatchFailed(failed)

    async with served(app) as running:
        await stream.publish_batch(list(range(10)))
        await running.quiet(stream, "g")
        letters = await dead_letters(stream, "g")
    tried = Counter(number for call in calls for number, _ in call)
    assert tried == {number: 3 if number in (3, 7) else 1 for number in range(10)}
    assert [letter.record.data for letter in letters] == [b"3", b"7"]
    assert [cause_of(letter).reason for letter in letters] == ["ValueError: no 3", "ValueError: no 7"]
    assert {cause_of(letter).attempts for letter in letters} == {3}


async def test_a_batch_that_fails_as_a_whole_gives_up_the_bad_one_only(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)
    handled: list[int] = []

    @app.subscribe_batch(stream, group="g", size=10, max_wait="300ms", retry=QUICK)
    async def handle(events: Sequence[Received[Any]]) -> None:
        for event in events:
            if event.data == 4:
                raise ValueError("poison")
        handled.extend(event.data for event in events)

    async with served(app) as running:
        await stream.publish_batch(list(range(10)))
        await running.quiet(stream, "g")
        (letter,) = await dead_letters(stream, "g")
    assert sorted(handled) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert letter.record.data == b"4"
    assert cause_of(letter).reason == "ValueError: poison"


async def test_positions_that_are_not_in_the_batch_fail_it_as_a_whole(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)
    handled: list[int] = []

    @app.subscribe_batch(stream, group="g", size=5, max_wait="200ms", retry=QUICK)
    async def handle(events: Sequence[Received[Any]]) -> None:
        if len(events) > 1:
            raise BatchFailed({"nowhere": ValueError()})
        handled.append(events[0].data)

    async with served(app) as running:
        await stream.publish_batch(list(range(5)))
        assert (await running.quiet(stream, "g")).dead == 0
    assert sorted(handled) == list(range(5))


async def test_sync_batch_handlers_run_in_a_thread_and_may_take_a_context(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)
    seen: list[tuple[str, str, int]] = []

    @app.subscribe_batch(stream, group="g", size=10, max_wait="50ms")
    def handle(events: Sequence[Received[Any]], context: Context) -> None:
        seen.extend((threading.current_thread().name, context.group, event.data) for event in events)

    async with served(app) as running:
        await stream.publish_batch(list(range(10)))
        await running.quiet(stream, "g")
    assert sorted(number for _, _, number in seen) == list(range(10))
    assert {group for _, group, _ in seen} == {"g"}
    assert threading.current_thread().name not in {name for name, _, _ in seen}


async def test_undecodable_events_are_given_up_and_the_rest_of_the_batch_runs(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    numbers = app.stream(stream_name)
    typed = app.pattern(stream_name, int)
    seen: list[int] = []

    @app.subscribe_batch(typed, group="g", size=10, max_wait="50ms")
    async def handle(events: Sequence[Received[int]]) -> None:
        seen.extend(event.data for event in events)

    async with served(app) as running:
        await numbers.publish_batch([1, "two", 3])
        await wait_until(lambda: len(seen) == 2, timeout=10)
        await running.quiet(numbers, "g")
        (letter,) = await dead_letters(numbers, "g")
    assert seen == [1, 3]
    assert letter.record.data == b'"two"'
    assert cause_of(letter).error == "DecodeError"


async def test_at_the_end_the_batch_that_runs_is_finished(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)
    begun, go, ended = asyncio.Event(), asyncio.Event(), list[int]()

    @app.subscribe_batch(stream, group="g", size=5, max_wait="20ms")
    async def handle(events: Sequence[Received[Any]]) -> None:
        begun.set()
        await go.wait()
        ended.extend(event.data for event in events)

    async with served(app) as running:
        await stream.publish_batch(list(range(5)))
        await begun.wait()
        ending = asyncio.create_task(running.end())
        await asyncio.sleep(0)
        go.set()
        assert await ending == 0
        group = next(each for each in (await stream.describe()).groups if each.name == "g")
    assert ended == list(range(5))
    assert (group.lag, group.pending) == (0, 0)


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_has_at_least_one_event(size: int) -> None:
    app = Mainstem("memory://")
    with pytest.raises(ConfigError, match=f"size={size} of a batch must be at least 1"):
        app.subscribe_batch(app.stream("s"), group="g", size=size)
