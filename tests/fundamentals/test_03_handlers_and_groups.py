"""A handler receives every event of a stream once per group. Groups are independent; members of one share the work."""

from __future__ import annotations

from typing import Any

from mainstem import Mainstem, Received
from waiting import wait_until


async def test_every_group_sees_every_event() -> None:
    app = Mainstem()
    ticks = app.stream("ticks")
    seen: dict[str, list[int]] = {"archive": [], "alerts": []}

    @app.subscribe(ticks, group="archive")
    async def archive(event: Received[Any]) -> None:
        seen["archive"].append(event.data["n"])

    @app.subscribe(ticks, group="alerts")
    def alert(event: Received[Any]) -> None:  # a sync handler runs in a thread
        seen["alerts"].append(event.data["n"])

    async with app.running():
        await ticks.publish_batch([{"n": n} for n in range(5)])
        await wait_until(lambda: all(len(numbers) == 5 for numbers in seen.values()))

    assert seen == {"archive": [0, 1, 2, 3, 4], "alerts": [0, 1, 2, 3, 4]}


async def test_members_of_one_group_share_its_events() -> None:
    seen: list[tuple[str, int]] = []

    def worker(name: str) -> Mainstem:
        app = Mainstem()

        @app.subscribe(app.stream("jobs"), group="workers")
        async def work(event: Received[Any]) -> None:
            seen.append((name, event.data["n"]))

        return app

    first, second = worker("first"), worker("second")
    async with first.running(), second.running():
        jobs = first.stream("jobs")
        for n in range(40):
            await jobs.publish({"n": n})
        await wait_until(lambda: len(seen) >= 40)

    assert sorted(n for _, n in seen) == list(range(40))  # each event went to one of them
    assert {name for name, _ in seen} == {"first", "second"}


async def test_a_group_goes_on_where_it_stopped() -> None:
    seen: list[int] = []

    def app_of_today() -> Mainstem:
        app = Mainstem()

        @app.subscribe(app.stream("ticks"), group="archive")
        async def archive(event: Received[Any]) -> None:
            seen.append(event.data["n"])

        return app

    async with app_of_today().running() as app:
        await app.stream("ticks").publish_batch([{"n": 0}, {"n": 1}])
        await wait_until(lambda: len(seen) == 2)
    async with Mainstem() as publisher:
        await publisher.stream("ticks").publish({"n": 2})  # nobody is listening now
    async with app_of_today().running():
        await wait_until(lambda: len(seen) == 3)

    assert seen == [0, 1, 2]
