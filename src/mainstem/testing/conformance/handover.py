"""Keyed mode with several members: shares, handing over, deadlines."""

from __future__ import annotations

import asyncio
import time

from mainstem.engine import Gained, Lost, Part, Revoking
from mainstem.testing.conformance.scene import SOON, Reader, Scene, ids, record, until


class Handover:
    async def test_members_share_the_parts_evenly(self, scene: Scene) -> None:
        """Of five partitions two members get three and two; no partition has two owners."""
        spec = await scene.stream(5)
        readers = [await scene.reader(spec), await scene.reader(spec, engine=await scene.another())]
        owned = await _settled_shares(readers, [2, 3])
        assert sorted(owned[0] | owned[1]) == [(spec.name, partition) for partition in spec.parts]

    async def test_more_members_than_parts(self, scene: Scene) -> None:
        """Some own nothing and are ready: when an owner leaves, one of them takes over."""
        spec = await scene.stream(2)
        readers = [await scene.reader(spec) for _ in range(3)]
        owned = await _settled_shares(readers, [0, 1, 1])
        leaver = owned.index(next(each for each in owned if each))
        await readers.pop(leaver).member.leave()
        assert sorted(map(len, await _settled_shares(readers, [1, 1]))) == [1, 1]

    async def test_a_part_is_handed_over_without_overlap(self, scene: Scene) -> None:
        """Until it is yielded the new owner gets nothing of it; then it gets only what was not settled, in order."""
        spec = await scene.stream(2)
        old = await scene.reader(spec)
        await scene.publish_to([((spec.name, n % 2), record(f"e{n}")) for n in range(8)])
        held = await old.get(8)
        new = await scene.reader(spec, engine=await scene.another())
        (revoking,) = await _until_revoking([old, new], old)
        assert revoking.deadline > time.monotonic()
        await new.nothing(0.5)
        leaving = [each for each in held if each.part == revoking.part]
        assert await old.done(*leaving[:2]) == []
        await old.member.yield_part(revoking.part)
        got = [each for _ in range(2) for each in await new.get(1, settle=True)]
        assert ids(got) == ids(leaving[2:])
        assert [each.deliveries for each in got] == [1, 1]
        assert revoking.part in {each.part for each in new.signals if isinstance(each, Gained)}
        assert await old.done(*[each for each in held if each.part != revoking.part]) == []

    async def test_a_revoked_part_gets_no_more_events(self, scene: Scene) -> None:
        """Once `Revoking` is out, what is published there waits for the next owner."""
        spec = await scene.stream(2)
        old = await scene.reader(spec)
        await old.signalled(Gained, 2)
        new = await scene.reader(spec, engine=await scene.another())
        (revoking,) = await _until_revoking([old, new], old)
        await scene.publish_to([(revoking.part, record("late"))])
        await asyncio.gather(old.nothing(0.3), new.nothing(0.3))
        await old.member.yield_part(revoking.part)
        assert ids(await new.get(1, settle=True)) == ["late"]

    async def test_a_part_that_is_not_yielded_is_taken_at_the_deadline(self, scene: Scene) -> None:
        """The owner is told that it lost the partition, its late results are refused, and nothing is lost."""
        spec = await scene.stream(2)
        old = await scene.reader(spec, drain=0.5)
        await scene.publish_to([((spec.name, n % 2), record(f"e{n}")) for n in range(4)])
        held = await old.get(4)
        new = await scene.reader(spec, engine=await scene.another(), drain=0.5)
        (revoking,) = await _until_revoking([old, new], old)
        leaving = [each for each in held if each.part == revoking.part]
        again = [each for _ in range(2) for each in await new.get(1, settle=True, within=0.5 + scene.recovery)]
        assert ids(again) == ids(leaving)
        lost = await old.signalled(Lost, within=scene.recovery)
        assert [each.part for each in lost] == [revoking.part]
        assert ids(await old.refused(*leaving)) == ids(leaving)

    async def test_leaving_hands_over_at_once(self, scene: Scene) -> None:
        """A member that leaves makes nobody wait for its lease."""
        spec = await scene.stream(2)
        old, new = await scene.reader(spec, lease=30.0), await scene.reader(spec, lease=30.0)
        await old.member.leave()
        await scene.publish_to([((spec.name, n % 2), record(f"e{n}")) for n in range(4)])
        assert sorted(ids(await new.get(4, settle=True, within=3.0))) == ["e0", "e1", "e2", "e3"]

    async def test_a_crashed_owner_is_replaced(self, scene: Scene) -> None:
        """Within the lease and two seconds its partitions have owners again, though nothing new is published."""
        spec = await scene.stream(4)
        doomed = await scene.another()
        first, second = await scene.reader(spec, engine=doomed), await scene.reader(spec)
        await _settled_shares([first, second], [2, 2])
        scene.crash(doomed)
        await second.signalled(Gained, 4, within=scene.recovery)
        await scene.publish_to([((spec.name, n % 4), record(f"e{n}")) for n in range(8)])
        assert sorted(ids(await second.get(8, settle=True))) == [f"e{n}" for n in range(8)]

    async def test_order_holds_while_members_come_and_go(self, scene: Scene) -> None:
        """Joins and leaves under load: per key, events are first finished in the order of publishing, none is lost."""
        spec = await scene.stream(4)
        finished: list[str] = []
        stop = asyncio.Event()
        work = [asyncio.create_task(_work(await scene.reader(spec), finished, stop)) for _ in range(2)]
        for turn in range(6):
            await scene.publish(spec, *(record(f"k{n % 8}/{turn * 40 + n}", key=f"k{n % 8}") for n in range(40)))
            work.append(asyncio.create_task(_work(await scene.reader(spec), finished, asyncio.Event(), calls=20)))

        async def all_finished() -> bool:
            return len(set(finished)) == 240

        try:
            await until(all_finished, "240 events are finished", 4 * SOON)
        finally:
            stop.set()
            await asyncio.wait(work)
        first = list(dict.fromkeys(finished))
        for key in range(8):
            numbers = [int(each.split("/")[1]) for each in first if each.startswith(f"k{key}/")]
            assert numbers == sorted(numbers)


async def _work(reader: Reader, finished: list[str], stop: asyncio.Event, calls: int = 1 << 30) -> None:
    """A member that handles one event at a time and hands over when it is asked to."""
    while calls and not stop.is_set():
        calls -= 1
        seen = len(reader.signals)
        for delivery in await reader.receive(5, 0.05):
            fenced = await reader.done(delivery)
            finished += ids([delivery] if not fenced else [])
        await _yield_revoked(reader, seen)
    await reader.member.leave()


async def _yield_revoked(reader: Reader, since: int) -> None:
    for signal in reader.signals[since:]:
        if isinstance(signal, Revoking):
            await reader.member.yield_part(signal.part)


async def _until_revoking(readers: list[Reader], old: Reader) -> list[Revoking]:
    """Receive with all until `old` is asked for a partition; no event may come meanwhile."""

    async def asked() -> list[Revoking]:
        for reader in readers:
            assert ids(await reader.receive(10, 0.02)) == []
        return [each for each in old.signals if isinstance(each, Revoking)]

    return await until(asked, "a partition is revoked")


async def _settled_shares(readers: list[Reader], sizes: list[int]) -> list[set[Part]]:
    """Receive with all, yielding what is asked for, until each has its share."""

    async def shared() -> list[set[Part]]:
        for reader in readers:
            seen = len(reader.signals)
            await reader.receive(10, 0.02)
            await _yield_revoked(reader, seen)
        owned = [_owned(reader) for reader in readers]
        assert sum(map(len, owned)) == len(set[Part]().union(*owned)), f"a partition has two owners: {owned}"
        return owned if sorted(map(len, owned)) == sizes else []

    return await until(shared, f"the shares are {sizes}", 2 * SOON)


def _owned(reader: Reader) -> set[Part]:
    """By the signals so far. A revoked partition is yielded at once in these tests."""
    owned: set[Part] = set()
    for signal in reader.signals:
        if isinstance(signal, Gained):
            owned.add(signal.part)
        elif isinstance(signal, Revoking | Lost):
            owned.discard(signal.part)
    return owned
