"""Handlers of single events through the public API: success, failure, every outcome, and what runs when."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from front.lab import cause_of, dead_letters, served, standing
from mainstem import (
    Context,
    EventRejected,
    Mainstem,
    Metadata,
    Received,
    Reject,
    Retry,
    RetryLater,
    Skip,
    StreamEvent,
)
from waiting import wait_until

QUICK = Retry(3, base="10ms", cap="20ms")


async def test_success_acknowledges(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)
    seen: list[Received[Any]] = []

    @app.subscribe(stream, group="g")
    async def handle(event: Received[Any]) -> None:
        seen.append(event)

    async with served(app) as running:
        positions = await stream.publish_batch([{"n": n} for n in range(50)])
        group = await running.quiet(stream, "g")
        await wait_until(lambda: len(seen) == 50)
        assert sorted(event.data["n"] for event in seen) == list(range(50))
        assert {event.position for event in seen} == set(positions)
        assert {event.attempt for event in seen} == {1}
        assert {event.stream for event in seen} == {stream_name}
        assert (group.dead, group.lost) == (0, 0)


async def test_each_group_has_every_event(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)
    seen: dict[str, list[int]] = {"a": [], "b": []}

    @app.subscribe(stream, group="a")
    async def first(event: Received[Any]) -> None:
        seen["a"].append(event.data)

    @app.subscribe(stream, group="b")
    async def second(event: Received[Any]) -> None:
        seen["b"].append(event.data)

    async with served(app) as running:
        await stream.publish_batch(list(range(20)))
        await running.quiet(stream, "a")
        await running.quiet(stream, "b")
    assert {name: sorted(numbers) for name, numbers in seen.items()} == {"a": list(range(20)), "b": list(range(20))}


async def test_a_new_group_at_the_end_has_only_what_comes(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)
    seen: list[int] = []

    @app.subscribe(stream, group="g", start="end")
    async def handle(event: Received[Any]) -> None:
        seen.append(event.data)

    async with app:
        await stream.publish(1)
    if url == "memory://":
        return  # a memory engine begins empty each time it is opened
    async with served(app) as running:
        await wait_until(lambda: standing(stream, "g"))
        await stream.publish(2)
        await wait_until(lambda: seen)
        await running.quiet(stream, "g")
    assert seen == [2]


async def test_a_failing_event_is_tried_again_and_then_given_up(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)
    tried: list[tuple[str, int]] = []

    @app.subscribe(stream, group="g", retry=QUICK)
    async def handle(event: Received[Any]) -> None:
        tried.append((event.data, event.attempt))
        if event.data == "bad":
            raise ValueError("no such symbol")

    async with served(app) as running:
        await stream.publish("good")
        position = await stream.publish("bad", id="bad-1", type="order", source="desk", metadata=Metadata(user_id="u"))
        await stream.publish("fine")
        group = await running.quiet(stream, "g")
        letters = await dead_letters(stream, "g")
    assert sorted(tried) == [("bad", 1), ("bad", 2), ("bad", 3), ("fine", 1), ("good", 1)]
    assert group.dead == 1
    (letter,) = letters
    assert letter.position == position
    assert letter.part == (stream_name, 0)
    assert (letter.record.id, letter.record.data) == (b"bad-1", b'"bad"')
    assert (letter.record.type, letter.record.source) == (b"order", b"desk")
    assert msgspec.json.decode(letter.record.meta) == {"user_id": "u"}
    cause = cause_of(letter)
    assert (cause.reason, cause.error, cause.attempts) == ("ValueError: no such symbol", "ValueError", 3)
    assert (cause.stream, cause.group, cause.handler, cause.position) == (stream_name, "g", "handle", position)
    assert 'raise ValueError("no such symbol")' in cause.traceback


async def test_an_event_that_fails_once_succeeds_the_second_time(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)
    attempts: list[int] = []

    @app.subscribe(stream, group="g", retry=QUICK)
    async def handle(event: Received[Any]) -> None:
        attempts.append(event.attempt)
        if event.attempt == 1:
            raise ConnectionError("database away")

    async with served(app) as running:
        await stream.publish(1)
        assert (await running.quiet(stream, "g")).dead == 0
    assert attempts == [1, 2]


async def test_reject_gives_up_at_once(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)
    attempts: list[int] = []

    @app.subscribe(stream, group="g")
    async def handle(event: Received[Any]) -> None:
        attempts.append(event.attempt)
        raise Reject("unknown symbol ZZZ")

    async with served(app) as running:
        await stream.publish(1)
        await running.quiet(stream, "g")
        (letter,) = await dead_letters(stream, "g")
    assert attempts == [1]
    assert cause_of(letter).reason == "unknown symbol ZZZ"
    assert cause_of(letter).attempts == 1


async def test_retry_later_waits_as_long_as_it_says(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)
    at: list[float] = []

    @app.subscribe(stream, group="g", retry=QUICK)
    async def handle(event: Received[Any]) -> None:
        at.append(time.monotonic())
        if event.attempt == 1:
            raise RetryLater("300ms", "market closed")

    async with served(app) as running:
        await stream.publish(1)
        assert (await running.quiet(stream, "g")).dead == 0
    assert len(at) == 2
    assert 0.29 <= at[1] - at[0] < 2.0


async def test_skip_acknowledges_without_a_result(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream, output = app.stream(stream_name), app.stream(f"{stream_name}.out")

    @app.subscribe(stream, group="g", to=output)
    async def handle(event: Received[Any]) -> int:
        if event.data % 2:
            raise Skip
        return int(event.data)

    async with served(app) as running:
        await stream.publish_batch([1, 2, 3, 4])
        group = await running.quiet(stream, "g")
        assert sorted([event.data async for event in output.read()]) == [2, 4]
    assert group.dead == 0


async def test_sync_handlers_run_in_threads_beside_each_other(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)
    threads: set[str] = set()
    meet = threading.Barrier(4)

    @app.subscribe(stream, group="g", concurrency=4)
    def handle(event: Received[Any], context: Context) -> None:
        threads.add(threading.current_thread().name)
        meet.wait(5)  # four at once, or none gets through
        assert context.attempt == 1

    async with served(app) as running:
        await stream.publish_batch([1, 2, 3, 4])
        assert (await running.quiet(stream, "g")).dead == 0
    assert len(threads) == 4
    assert threading.current_thread().name not in threads


async def test_an_attempt_that_takes_too_long_fails(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)
    cancelled: list[int] = []

    @app.subscribe(stream, group="g", timeout="100ms", retry=Retry(2, base=0, cap=0))
    async def handle(event: Received[Any]) -> None:
        try:
            await asyncio.sleep(60 if event.data == "slow" else 0)
        except asyncio.CancelledError:
            cancelled.append(event.attempt)
            raise

    async with served(app) as running:
        await stream.publish_batch(["slow", "quick"])
        await running.quiet(stream, "g")
        (letter,) = await dead_letters(stream, "g")
    assert cancelled == [1, 2]
    assert letter.record.data == b'"slow"'
    assert cause_of(letter).error == "TimeoutError"


class Alert(msgspec.Struct):
    text: str


async def test_results_are_published_once_however_often_the_input_is_tried(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream, output = app.stream(stream_name), app.stream(f"{stream_name}.out", Alert)
    broken = [True]

    @app.middleware
    async def fail_after_the_handler(event: Any, call_next: Callable[[], Awaitable[Any]]) -> Any:
        result = await call_next()
        if broken:
            broken.clear()
            raise OSError("after the handler, before the result")
        return result

    @app.subscribe(stream, group="g", to=output, retry=QUICK)
    async def handle(event: Received[Any]) -> Alert | None:
        return Alert(event.data) if event.data != "nothing" else None

    async with served(app) as running:
        await stream.publish(StreamEvent(data="a", id="in-a", metadata=Metadata(correlation_id="root")))
        await stream.publish(StreamEvent(data="nothing", id="in-n"))
        await running.quiet(stream, "g")
        (event,) = [event async for event in output.read()]
    assert event.data == Alert("a")
    assert event.type == "Alert"
    assert (event.metadata.correlation_id, event.metadata.causation_id) == ("root", "in-a")
    assert event.id != "in-a"


async def test_the_id_of_a_result_is_derived_so_that_a_repeat_is_recognised(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream, output = app.stream(stream_name), app.stream(f"{stream_name}.out")

    @app.subscribe(stream, group="g", to=output)
    async def handle(event: Received[Any]) -> Any:
        return event.data

    async with served(app) as running:
        for _ in range(2):  # the same event twice, as after a lost reply
            await stream.publish(StreamEvent(data="a", id="same"))
        await running.quiet(stream, "g")
        ids = [event.id async for event in output.read()]
    assert len(ids) == 2
    assert len(set(ids)) == 1


async def test_a_result_that_cannot_be_published_is_a_failure_of_the_handler(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream, output = app.stream(stream_name), app.stream(f"{stream_name}.out", Alert)

    @app.subscribe(stream, group="g", to=output, retry=QUICK)
    async def handle(event: Received[Any]) -> Any:
        return {"wrong": 1}

    async with served(app) as running:
        await stream.publish(1)
        await running.quiet(stream, "g")
        (letter,) = await dead_letters(stream, "g")
        assert [event async for event in output.read()] == []
    assert cause_of(letter).error == EventRejected.__name__
    assert cause_of(letter).attempts == 3
