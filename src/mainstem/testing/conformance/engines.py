"""Engines themselves: sharing, outliving, closing, and leaving nothing behind."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from mainstem.errors import MainstemError
from mainstem.testing.conformance.scene import Scene, ids, requires
from mainstem.testing.elsewhere import another_process


class Engines:
    async def test_engines_see_the_same_streams(self, scene: Scene) -> None:
        """What one engine declares and publishes, another one on the same store reads."""
        spec = await scene.stream()
        await scene.publish_ids(spec, "a")
        other = await scene.another()
        assert await other.streams(spec.name) == [spec]
        assert ids((await other.read(spec.name, {}, 10, 0.0)).deliveries) == ["a"]

    @requires("shared")
    async def test_another_process_sees_the_same_streams(self, scene: Scene) -> None:
        """Two processes are members of one group, and publish to one another."""
        spec = await scene.stream()
        await scene.publish_ids(spec, "a")
        async with another_process(scene.harness, spec, scene.group()) as process:
            assert await process.receive(1) == ["a"]
            (position,) = await process.publish("b")
            page = await scene.engine.read(spec.name, {}, 10, 0.0)
            assert [(each.record.id, each.position) for each in page.deliveries][1:] == [(b"b", position)]

    @requires("durable")
    async def test_streams_outlive_their_engines(self, scene: Scene) -> None:
        """When every engine was closed, a new one finds the streams, the events and where the groups stood."""
        spec = await scene.stream()
        reader = await scene.reader(spec)
        await scene.publish_ids(spec, "a", "b")
        await reader.get(1, settle=True)
        await scene.close()
        later = await scene.another()
        assert await later.streams(spec.name) == [spec]
        heir = await scene.reader(spec, engine=later)
        assert ids(await heir.get(1, settle=True)) == ["b"]

    async def test_close_releases_and_may_be_repeated(self, scene: Scene) -> None:
        """Members of a closed engine have left: what they held comes to others at once. Closing again does nothing."""
        spec = await scene.stream()
        leaver = await scene.another()
        reader = await scene.reader(spec, engine=leaver, lease=30.0)
        await scene.publish_ids(spec, "a")
        await reader.get(1)
        await leaver.close()
        await leaver.close()
        (again,) = await (await scene.reader(spec, lease=30.0)).get(1, within=3.0)
        assert (again.record.id, again.deliveries) == (b"a", 1)

    async def test_closing_ends_a_waiting_receive(self, scene: Scene) -> None:
        """Nobody hangs: the call returns nothing or raises an error of this package, promptly."""
        spec = await scene.stream()
        engine = await scene.another()
        reader = await scene.reader(spec, engine=engine)
        receiving = asyncio.create_task(reader.receive(1, 30.0))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        await engine.close()
        (result,) = await asyncio.wait_for(asyncio.gather(receiving, return_exceptions=True), 3.0)
        assert result == [] or isinstance(result, MainstemError)
        assert time.monotonic() - started < 3.0

    async def test_a_closed_engine_refuses(self, scene: Scene) -> None:
        """Calls after closing raise an error of this package, not of the vendor's."""
        engine = await scene.another()
        await engine.close()
        try:
            await engine.declare(scene.spec())
        except MainstemError:
            return
        raise AssertionError("a closed engine declared a stream")

    async def test_nothing_is_left_behind(self, scene: Scene) -> None:
        """After closing, and after aborting, no task and no thread of the engine is left."""
        tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
        for end in ("close", "abort"):
            engine = await scene.another()
            for partitions in (0, 2):
                spec = await scene.stream(partitions)
                reader = await scene.reader(spec, engine=engine)
                await scene.publish_ids(spec, "a", "b")
                await reader.get(2)
            if end == "close":
                await engine.close()
            else:
                scene.crash(engine)

        for _ in range(500):  # what is ending gets 5 s
            if not _left(tasks, threads):
                break
            await asyncio.sleep(0.01)
        assert not _left(tasks, threads)


def _left(tasks: set[asyncio.Task[Any]], threads: set[threading.Thread]) -> list[str]:
    """Tasks and threads that were not there before; the event loop keeps its own pool until it is closed."""
    new_tasks = [f"task {each.get_name()}: {each.get_coro()}" for each in asyncio.all_tasks() - tasks]
    new_threads = [each.name for each in threading.enumerate() if each not in threads]
    return new_tasks + [f"thread {name}" for name in new_threads if not name.startswith("asyncio_")]
