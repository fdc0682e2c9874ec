"""Reading a stream without a group: cursors, times and waiting."""

from __future__ import annotations

import asyncio
import time

import pytest

from mainstem.testing.conformance.scene import BOTH, Scene, ids, record, until


class Reading:
    @pytest.mark.parametrize("partitions", BOTH)
    async def test_read_goes_on_at_the_cursor(self, scene: Scene, partitions: int) -> None:
        """Page after page, every event comes once, in the order of its partition, `limit` at most at a time."""
        spec = await scene.stream(partitions)
        wanted = [record(f"e{n}", key=f"k{n % 5}") for n in range(50)]
        await scene.publish(spec, *wanted)
        cursor = await scene.engine.locate(spec.name, "beginning")
        seen: list[str] = []
        while (page := await scene.engine.read(spec.name, cursor, 7, 0.0)).deliveries:
            assert len(page.deliveries) <= 7
            seen += ids(page.deliveries)
            cursor = page.cursor
        assert len(seen) == 50
        for key in range(5):
            assert [each for each in seen if int(each[1:]) % 5 == key] == [f"e{n}" for n in range(key, 50, 5)]

    async def test_read_goes_on_at_a_position(self, scene: Scene) -> None:
        """The position of an event is a cursor: reading after it starts at the next event."""
        spec = await scene.stream()
        positions = await scene.publish_ids(spec, "a", "b", "c")
        page = await scene.engine.read(spec.name, {0: positions[1]}, 10, 0.0)
        assert ids(page.deliveries) == ["c"]

    async def test_read_from_a_time(self, scene: Scene) -> None:
        """Reading starts at the first event recorded at the time or later."""
        spec = await scene.stream()
        await scene.publish_ids(spec, "old")
        (old,) = (await scene.engine.read(spec.name, {}, 1, 0.0)).deliveries
        assert abs(old.recorded_ms / 1000 - time.time()) < 60

        async def later() -> bool:
            return time.time() * 1000 > old.recorded_ms + 5

        await until(later, "the clock moves on")
        await scene.publish_ids(spec, "new")
        cursor = await scene.engine.locate(spec.name, (old.recorded_ms + 1) / 1000)
        assert ids((await scene.engine.read(spec.name, cursor, 10, 0.0)).deliveries) == ["new"]
        cursor = await scene.engine.locate(spec.name, old.recorded_ms / 1000)
        assert ids((await scene.engine.read(spec.name, cursor, 10, 0.0)).deliveries) == ["old", "new"]

    @pytest.mark.parametrize("partitions", BOTH)
    async def test_read_from_the_end(self, scene: Scene, partitions: int) -> None:
        """From the end, only what is published later is read."""
        spec = await scene.stream(partitions)
        await scene.publish_ids(spec, "old")
        cursor = await scene.engine.locate(spec.name, "end")
        assert (await scene.engine.read(spec.name, cursor, 10, 0.0)).deliveries == []
        await scene.publish_ids(spec, "new")
        assert ids((await scene.engine.read(spec.name, cursor, 10, 0.0)).deliveries) == ["new"]

    async def test_read_waits_for_the_first_event(self, scene: Scene) -> None:
        """With a wait, reading returns when there is something, and not before."""
        spec = await scene.stream()
        cursor = await scene.engine.locate(spec.name, "end")
        reading = asyncio.create_task(scene.engine.read(spec.name, cursor, 10, 10.0))
        await asyncio.sleep(0.05)
        assert not reading.done()
        started = time.monotonic()
        await scene.publish_ids(spec, "a")
        assert ids((await reading).deliveries) == ["a"]
        assert time.monotonic() - started < 2.0

    async def test_read_without_events_ends_after_the_wait(self, scene: Scene) -> None:
        """When nothing comes, the page is empty and its cursor still good."""
        spec = await scene.stream()
        await scene.publish_ids(spec, "a")
        end = await scene.engine.locate(spec.name, "end")
        started = time.monotonic()
        page = await scene.engine.read(spec.name, end, 10, 0.2)
        assert page.deliveries == []
        assert 0.1 < time.monotonic() - started < 3.0
        await scene.publish_ids(spec, "b")
        assert ids((await scene.engine.read(spec.name, page.cursor, 10, 0.0)).deliveries) == ["b"]

    async def test_reading_changes_no_group(self, scene: Scene) -> None:
        """Reading takes nothing away from a group."""
        spec = await scene.stream()
        reader = await scene.reader(spec)
        await scene.publish_ids(spec, "a", "b")
        await scene.engine.read(spec.name, {}, 10, 0.0)
        assert ids(await reader.get(2)) == ["a", "b"]
