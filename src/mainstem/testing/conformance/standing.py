"""Where groups stand: the figures of `describe`, seeking, deleting groups, other retention."""

from __future__ import annotations

import time

import msgspec
import pytest

from mainstem.engine import Admin, GroupInfo
from mainstem.testing.conformance.scene import BOTH, Scene, ids, requires, until


class Standing:
    @pytest.mark.parametrize("partitions", BOTH)
    async def test_describe_counts_the_stream(self, scene: Scene, partitions: int) -> None:
        """Length, events ever added, and the times of the first and the last, over all partitions."""
        spec = await scene.stream(partitions)
        empty = await scene.engine.describe(spec.name)
        assert (empty.spec, empty.length, empty.added, empty.first_ms, empty.last_ms) == (spec, 0, 0, None, None)
        assert empty.groups == ()
        await scene.publish_ids(spec, *(f"e{n}" for n in range(20)))
        page = await scene.engine.read(spec.name, {}, 100, 0.0)
        info = await scene.engine.describe(spec.name)
        assert (info.length, info.added) == (20, 20)
        assert (info.first_ms, info.last_ms) == (page.deliveries[0].recorded_ms, page.deliveries[-1].recorded_ms)
        assert info.bytes is None or info.bytes > 0

    async def test_describe_counts_a_queue_group(self, scene: Scene) -> None:
        """Lag is what was not delivered, pending what was delivered and not settled; both end at 0."""
        spec = await scene.stream()
        reader = await scene.reader(spec)
        await scene.publish_ids(spec, *(f"e{n}" for n in range(5)))
        held = await reader.get(5)
        figures = await scene.figures(spec)
        assert (figures.name, figures.lag, figures.pending, figures.members) == ("g", 0, 5, 1)
        assert await reader.done(*held) == []
        await _until_figures(scene, spec.name, lag=0, pending=0, lag_seconds=0.0)

    @pytest.mark.parametrize("partitions", BOTH)
    async def test_lag_counts_what_nobody_took(self, scene: Scene, partitions: int) -> None:
        """With no member at work, all that is published lags; its oldest event gives the lag in seconds."""
        spec = await scene.stream(partitions)
        reader = await scene.reader(spec)
        await scene.publish_ids(spec, "a")
        await reader.get(1, settle=True)
        await reader.member.leave()
        await scene.publish_ids(spec, *(f"e{n}" for n in range(30)))
        published = time.monotonic()
        await _until_figures(scene, spec.name, lag=30, pending=0)

        async def aged() -> bool:
            age = time.monotonic() - published
            seconds = (await scene.figures(spec)).lag_seconds
            assert seconds < age + 5.0
            return seconds >= 0.2

        await until(aged, "the lag in seconds grows")
        heir = await scene.reader(spec)
        await heir.get(30, settle=True)
        await _until_figures(scene, spec.name, lag=0, lag_seconds=0.0)

    @pytest.mark.parametrize("partitions", BOTH)
    async def test_counters_add_up(self, scene: Scene, partitions: int) -> None:
        """`count` adds to the group's own counters, whichever member calls; other groups' are their own."""
        spec = await scene.stream(partitions)
        first, second = await scene.reader(spec), await scene.reader(spec, engine=await scene.another())
        await scene.reader(spec, name="other")
        await first.member.count(spec.name, 3, 1)
        await second.member.count(spec.name, 4, 0)
        await _until_figures(scene, spec.name, handled=7, failed=1)
        other = await scene.figures(spec, "other")
        assert (other.handled, other.failed) == (0, 0)

    @requires("admin")
    @pytest.mark.parametrize("partitions", BOTH)
    async def test_seek_goes_back(self, scene: Scene, partitions: int) -> None:
        """At the beginning, everything comes again; at a position, what is behind it."""
        spec = await scene.stream(partitions)
        reader = await scene.reader(spec)
        positions = await scene.publish_ids(spec, "a", "b", "c")
        await reader.get(3, settle=True)
        await _admin(scene).seek(spec.name, "g", await scene.engine.locate(spec.name, "beginning"))
        assert ids(await reader.get(3, settle=True)) == ["a", "b", "c"]
        cursor = {**await scene.engine.locate(spec.name, "end"), 0: positions[0]}
        await _admin(scene).seek(spec.name, "g", cursor)
        assert ids(await reader.get(2, settle=True)) == ["b", "c"]
        await reader.nothing(0.3)

    @requires("admin")
    @pytest.mark.parametrize("partitions", BOTH)
    async def test_seek_fences_what_is_in_flight(self, scene: Scene, partitions: int) -> None:
        """Events delivered before the seek are refused when they are settled, and do not come again by themselves."""
        spec = await scene.stream(partitions)
        reader = await scene.reader(spec)
        await scene.publish_ids(spec, "a", "b")
        held = await reader.get(2)
        await _admin(scene).seek(spec.name, "g", await scene.engine.locate(spec.name, "end"))
        assert sorted(ids(await reader.refused(*held))) == ["a", "b"]
        await scene.publish_ids(spec, "c")
        assert ids(await reader.get(1, settle=True)) == ["c"]
        await reader.nothing(scene.lease * 1.5)

    @requires("admin")
    @pytest.mark.parametrize("partitions", BOTH)
    async def test_seek_creates_the_group(self, scene: Scene, partitions: int) -> None:
        """A group may be placed before its first member joins."""
        spec = await scene.stream(partitions)
        await scene.publish_ids(spec, "a")
        await _admin(scene).seek(spec.name, "g", await scene.engine.locate(spec.name, "end"))
        await scene.publish_ids(spec, "b")
        assert ids(await (await scene.reader(spec)).get(1, settle=True)) == ["b"]

    @requires("admin")
    @pytest.mark.parametrize("partitions", BOTH)
    async def test_a_deleted_group_is_forgotten(self, scene: Scene, partitions: int) -> None:
        """It is not described any more, and a member that joins later makes a new one; other groups stay."""
        spec = await scene.stream(partitions)
        reader, other = await scene.reader(spec), await scene.reader(spec, name="other")
        await scene.publish_ids(spec, "a")
        await reader.get(1, settle=True)
        await other.get(1, settle=True)
        await reader.member.count(spec.name, 1, 0)
        await reader.member.leave()
        await _admin(scene).delete_group(spec.name, "g")
        assert [each.name for each in (await scene.engine.describe(spec.name)).groups] == ["other"]
        again = await scene.reader(spec)
        assert ids(await again.get(1, settle=True)) == ["a"]
        assert (await scene.figures(spec)).handled == 0
        await other.nothing(0.2)

    @requires("admin")
    async def test_amend_changes_the_retention(self, scene: Scene) -> None:
        """Stored with the stream, for every engine; what is in the stream stays."""
        spec = await scene.stream(max_events=100_000)
        await scene.publish_ids(spec, "a")
        other = msgspec.structs.replace(spec, max_events=50_000, retain=3600.0)
        await _admin(scene).amend(other)
        assert await (await scene.another()).declare(spec) == other
        assert ids((await scene.engine.read(spec.name, {}, 10, 0.0)).deliveries) == ["a"]


async def _until_figures(scene: Scene, stream: str, **wanted: float) -> None:
    """Figures may follow what happened after a moment."""

    async def there() -> bool:
        group: GroupInfo = next(each for each in (await scene.engine.describe(stream)).groups if each.name == "g")
        return all(getattr(group, name) == value for name, value in wanted.items())

    await until(there, f"the group shows {wanted}")


def _admin(scene: Scene) -> Admin:
    admin = scene.engine.can.admin
    assert admin is not None
    return admin
