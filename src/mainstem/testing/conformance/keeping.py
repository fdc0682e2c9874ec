"""Retention: what is kept, what is refused, and the exact account of what a group lost by it."""

from __future__ import annotations

import time

import pytest

from mainstem.engine import Gap, StreamSpec
from mainstem.errors import Unavailable
from mainstem.testing.conformance.scene import BOTH, SOON, Reader, Scene, ids, record, requires, until

_SLACK = 300  # entries that an engine may keep beyond `max_events`, since servers trim whole blocks


class Keeping:
    @requires("retention")
    @pytest.mark.parametrize("partitions", BOTH)
    async def test_max_events_bounds_a_stream(self, scene: Scene, partitions: int) -> None:
        """A partition keeps the newest of its share, and not many more; nothing in between is missing."""
        spec = await scene.stream(partitions, max_events=200 * max(1, partitions))
        for start in range(0, 2000, 200):
            await scene.publish_ids(spec, *(f"e{n}" for n in range(start, start + 200)))
        page = await scene.engine.read(spec.name, {}, 2000, 0.0)
        assert 200 <= len(page.deliveries) <= 200 + _SLACK
        assert ids(page.deliveries) == [f"e{n}" for n in range(2000 - len(page.deliveries), 2000)]
        info = await scene.engine.describe(spec.name)
        assert (info.length, info.added) == (len(page.deliveries), 2000)

    @requires("retention")
    @pytest.mark.parametrize("partitions", BOTH)
    async def test_retain_bounds_the_age(self, scene: Scene, partitions: int) -> None:
        """Events older than `retain` go, younger ones stay."""
        spec = await scene.stream(partitions, retain=0.5)
        await scene.publish_ids(spec, *(f"old{n}" for n in range(400)))
        numbers = iter(range(1 << 30))

        async def old_are_gone() -> bool:
            await scene.publish_ids(spec, f"new{next(numbers)}")
            page = await scene.engine.read(spec.name, {}, 1, 0.0)
            return ids(page.deliveries) not in (["old0"], [])

        await until(old_are_gone, "events older than 0.5 s are dropped", 5.0)
        end = await scene.engine.read(spec.name, {}, 5000, 0.0)
        assert ids(end.deliveries)[-1] == f"new{next(numbers) - 1}"

    @requires("until_read")
    @pytest.mark.parametrize("partitions", BOTH)
    async def test_until_read_keeps_what_a_group_has_not_settled(self, scene: Scene, partitions: int) -> None:
        """An event goes when every group has settled it, and not before."""
        spec = await scene.stream(partitions, until_read=True)
        fast, slow = await scene.reader(spec, name="fast"), await scene.reader(spec, name="slow")
        await scene.publish_ids(spec, *(f"e{n}" for n in range(10)))
        await fast.get(10, settle=True)
        held = await slow.get(10)
        await slow.done(*held[:4], *held[6:])

        async def four_are_gone() -> bool:
            await slow.nothing(0.05)
            page = await scene.engine.read(spec.name, {}, 100, 0.0)
            assert ids(page.deliveries)[-6:] == [f"e{n}" for n in range(4, 10)]
            return len(page.deliveries) == 6

        await until(four_are_gone, "what both groups have settled is dropped", SOON)

    @requires("until_read")
    @pytest.mark.parametrize("partitions", BOTH)
    async def test_until_read_refuses_publishers_at_the_cap(self, scene: Scene, partitions: int) -> None:
        """With its share of unread ones, the rest of a batch is `Unavailable`; once there is room it goes on."""
        spec = await scene.stream(partitions, until_read=True, max_events=10 * max(1, partitions))
        reader = await scene.reader(spec)
        outcomes = await scene.engine.publish([((spec.name, 0), record(f"e{n}")) for n in range(13)], SOON)
        assert [isinstance(each, str) for each in outcomes] == [True] * 10 + [False] * 3
        assert all(isinstance(each, Unavailable) for each in outcomes[10:])
        await reader.get(5, settle=True)

        async def room() -> bool:
            (outcome,) = await scene.engine.publish([((spec.name, 0), record("late"))], SOON)
            assert isinstance(outcome, str | Unavailable)
            return isinstance(outcome, str)

        await until(room, "publishers go on after the group has read", SOON)
        assert ids(await reader.get(6, settle=True)) == ["e5", "e6", "e7", "e8", "e9", "late"]

    @requires("until_read")
    async def test_until_read_without_groups_keeps_all(self, scene: Scene) -> None:
        """What nobody has read yet is there for the first group."""
        spec = await scene.stream(until_read=True)
        await scene.publish_ids(spec, *(f"e{n}" for n in range(300)))
        assert (await scene.engine.describe(spec.name)).length == 300
        assert len(await (await scene.reader(spec)).get(300, settle=True)) == 300

    @requires("retention", "gaps")
    @pytest.mark.parametrize("partitions", BOTH)
    async def test_what_retention_took_is_counted(self, scene: Scene, partitions: int) -> None:
        """Received and missing together are all that was published, event for event; `describe` says the same."""
        spec = await scene.stream(partitions, max_events=100)
        reader = await scene.reader(spec)
        await scene.publish_ids(spec, *(f"e{n}" for n in range(10)))
        await reader.get(10, settle=True)
        await reader.member.leave()
        await _overrun(scene, spec, 10, 1500)
        reader = await scene.reader(spec)
        await _account(scene, spec, reader, 1500)
        assert ids(reader.deliveries) == [f"e{n}" for n in range(1510 - len(reader.deliveries), 1510)]

    @requires("retention", "gaps")
    async def test_a_second_gap_is_counted_too(self, scene: Scene) -> None:
        """Each loss is counted once."""
        spec = await scene.stream(max_events=100)
        for turn in range(2):
            reader = await scene.reader(spec)
            await reader.nothing(0.1)
            await reader.member.leave()
            before = (await scene.figures(spec)).lost
            await _overrun(scene, spec, turn * 1000, 1000)
            reader = await scene.reader(spec)
            await _account(scene, spec, reader, 1000, before)
            await reader.member.leave()

    @requires("gaps")
    async def test_nothing_is_reported_lost_without_a_loss(self, scene: Scene) -> None:
        """A group that keeps up, or that lags within what is kept, has no gap."""
        spec = await scene.stream(max_events=1000)
        await scene.publish_ids(spec, *(f"e{n}" for n in range(300)))
        reader = await scene.reader(spec)
        await reader.get(300, settle=True)
        await reader.nothing(1.2)
        assert not [each for each in reader.signals if isinstance(each, Gap)]
        assert (await scene.figures(spec)).lost == 0


async def _overrun(scene: Scene, spec: StreamSpec, start: int, count: int) -> None:
    for at in range(start, start + count, 100):
        await scene.publish_ids(spec, *(f"e{n}" for n in range(at, at + 100)))


async def _account(scene: Scene, spec: StreamSpec, reader: Reader, sent: int, lost_before: int = 0) -> None:
    """Receive until what came and what is missing add up, and see that it stays so."""

    end = time.monotonic() + SOON
    while len(reader.deliveries) + _missing(reader) < sent and time.monotonic() < end:
        await reader.done(*await reader.receive(100, 0.05))
    await reader.nothing(0.3)
    assert (len(reader.deliveries), _missing(reader)) == (len(reader.deliveries), sent - len(reader.deliveries))
    assert (await scene.figures(spec)).lost - lost_before == _missing(reader)


def _missing(reader: Reader) -> int:
    return sum(each.missing for each in reader.signals if isinstance(each, Gap))
