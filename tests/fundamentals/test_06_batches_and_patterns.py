"""A batch handler takes many events at once. A pattern follows all streams whose names match, new ones too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mainstem import BatchFailed, Mainstem, Received, Retry
from waiting import wait_until


async def test_a_batch_handler_gets_many_events_at_once() -> None:
    app = Mainstem()
    news = app.stream("news")
    sizes: list[int] = []

    @app.subscribe_batch(news, group="archive", size=50, max_wait="100ms")
    async def archive(events: Sequence[Received[Any]]) -> None:
        sizes.append(len(events))

    async with Mainstem() as publisher:
        await publisher.stream("news").publish_batch([{"n": n} for n in range(120)])
    async with app.running():
        await wait_until(lambda: sum(sizes) == 120)

    assert max(sizes) == 50


async def test_a_batch_may_fail_for_some_of_its_events() -> None:
    app = Mainstem()
    news = app.stream("news")
    runs: dict[int, int] = {}

    @app.subscribe_batch(news, group="archive", retry=Retry(3, base="10ms"))
    async def archive(events: Sequence[Received[Any]]) -> None:
        for event in events:
            runs[event.data["n"]] = runs.get(event.data["n"], 0) + 1
        failed = {event.position: ValueError("odd") for event in events if event.data["n"] % 2 and event.attempt == 1}
        if failed:
            raise BatchFailed(failed)

    async with app.running():
        await news.publish_batch([{"n": n} for n in range(6)])
        await wait_until(lambda: len(runs) == 6 and all(runs[n] == 2 for n in (1, 3, 5)))

    assert runs == {0: 1, 1: 2, 2: 1, 3: 2, 4: 1, 5: 2}


async def test_a_pattern_picks_up_streams_that_appear_later() -> None:
    app = Mainstem()
    seen: set[tuple[str, int]] = set()
    await_first = app.stream("news.europe")

    @app.subscribe(app.pattern("news.*"), group="all")
    async def note(event: Received[Any]) -> None:
        seen.add((event.stream, event.data["n"]))

    async with app.running():
        await await_first.publish({"n": 1})
        await wait_until(lambda: seen == {("news.europe", 1)})
        await app.stream("news.asia").publish({"n": 2})
        await app.stream("other").publish({"n": 3})
        await wait_until(lambda: ("news.asia", 2) in seen)

    assert seen == {("news.europe", 1), ("news.asia", 2)}
