"""Keyed mode with one owner: order, cursors, crashes. Several owners are in handover.py."""

from __future__ import annotations

from mainstem.engine import Delivery, Gained, StreamSpec
from mainstem.testing.conformance.scene import Reader, Scene, ids, partition_of, record
from mainstem.testing.elsewhere import zombie


class Keyed:
    async def test_events_of_a_key_keep_their_order(self, scene: Scene) -> None:
        """Per partition, and so per key, events come in the order in which they were published."""
        spec = await scene.stream(4)
        sent = [record(f"k{n % 10}/{n}", key=f"k{n % 10}") for n in range(400)]
        for start in range(0, 400, 40):
            await scene.publish(spec, *sent[start : start + 40])
        reader = await scene.reader(spec)
        await reader.get(400, settle=True, within=10.0)
        for partition in spec.parts:
            here = [each.record.id for each in reader.deliveries if each.part == (spec.name, partition)]
            assert here == [each.id for each in sent if partition_of(spec, each) == partition]

    async def test_a_member_gains_every_part(self, scene: Scene) -> None:
        """The only member is told of each partition that it owns."""
        spec = await scene.stream(3)
        reader = await scene.reader(spec)
        await reader.signalled(Gained, 3)
        assert sorted(each.part for each in reader.signals if isinstance(each, Gained)) == [
            (spec.name, partition) for partition in spec.parts
        ]

    async def test_only_the_unsettled_come_again_after_a_crash(self, scene: Scene) -> None:
        """Events settled out of order stay settled: the next owner gets the others, in order."""
        spec, held = await _crashed_after(scene, settled=("e2", "e4", "e5"))
        assert ids(held) == [f"e{n}" for n in range(1, 7)]
        heir = await scene.reader(spec)
        assert ids(await _one_by_one(heir, 3, scene.recovery)) == ["e1", "e3", "e6"]
        await heir.nothing(0.3)

    async def test_a_later_success_never_commits_past_an_unfinished_event(self, scene: Scene) -> None:
        """With all but the first settled, the first comes again, after a crash as well as after leaving."""
        spec, _ = await _crashed_after(scene, settled=("e2", "e3", "e4", "e5", "e6"))
        heir = await scene.reader(spec)
        (first,) = await heir.get(1, within=scene.recovery)
        assert first.record.id == b"e1"
        await heir.member.leave()
        last = await scene.reader(spec)
        assert ids(await _one_by_one(last, 1, scene.recovery)) == ["e1"]
        await last.nothing(0.3)

    async def test_new_events_follow_the_repeated_ones(self, scene: Scene) -> None:
        """After a crash the partition goes on in order: first what is unfinished, then what is new."""
        spec, _ = await _crashed_after(scene, settled=("e1", "e3"))
        await scene.publish_ids(spec, "e7", "e8")
        heir = await scene.reader(spec)
        assert ids(await _one_by_one(heir, 6, scene.recovery)) == ["e2", "e4", "e5", "e6", "e7", "e8"]

    async def test_a_crash_counts_for_the_oldest_event(self, scene: Scene) -> None:
        """An event that was in hand at each crash is seen to have been: `deliveries` grows with every one."""
        spec = await scene.stream(1)
        await scene.publish_ids(spec, "a", "b")
        counts: list[int] = []
        for _ in range(4):
            engine = await scene.another()
            (delivery,) = await (await scene.reader(spec, engine=engine)).get(1, within=scene.recovery)
            assert delivery.record.id == b"a"
            counts.append(delivery.deliveries or 0)
            scene.crash(engine)
        assert counts[0] == 1
        assert counts == sorted(set(counts)), f"the deliveries of an event that crashes its owner: {counts}"

    async def test_a_zombie_commits_nothing(self, scene: Scene) -> None:
        """The former owner's results are refused: what its successor had not finished comes again."""
        spec = await scene.stream(1)
        doomed = await scene.another()
        async with zombie(scene.harness, await scene.another(), spec, scene.group()) as old:
            await scene.publish_ids(spec, "a", "b", "c")
            assert await old.receive(3) == ["a", "b", "c"]
            await old.freeze()
            new = await scene.reader(spec, engine=doomed)
            assert ids(await new.get(1, within=scene.recovery + scene.lease)) == ["a"]
            assert sorted(await old.settle("done")) == ["a", "b", "c"]
        scene.crash(doomed)
        last = await scene.reader(spec)
        assert ids(await _one_by_one(last, 3, scene.recovery)) == ["a", "b", "c"]

    async def test_a_slow_handler_keeps_its_parts(self, scene: Scene) -> None:
        """Ownership does not depend on receiving or settling: after longer than the lease it still holds."""
        spec = await scene.stream(1)
        slow = await scene.reader(spec, drain=60.0)
        await scene.publish_ids(spec, "a")
        (held,) = await slow.get(1)
        other = await scene.reader(spec, engine=await scene.another(), drain=60.0)
        await other.nothing(scene.lease * 2.5)  # it may ask for the partition, but must not take it
        assert await slow.done(held) == []
        await slow.member.leave()
        await other.nothing(0.3)


async def _crashed_after(scene: Scene, settled: tuple[str, ...]) -> tuple[StreamSpec, list[Delivery]]:
    """A stream of one partition whose owner got e1 to e6, settled some of them one by one, and crashed."""
    spec = await scene.stream(1)
    doomed = await scene.another()
    owner = await scene.reader(spec, engine=doomed)
    await scene.publish_ids(spec, *(f"e{n}" for n in range(1, 7)))
    held = await owner.get(6)
    for delivery in held:
        if delivery.record.id.decode() in settled:
            assert await owner.done(delivery) == []
    await scene.linger()
    scene.crash(doomed)
    return spec, held


async def _one_by_one(reader: Reader, count: int, within: float) -> list[Delivery]:
    """Receive and settle in turn: after a crash an engine may hand out one event at a time."""
    return [each for _ in range(count) for each in await reader.get(1, settle=True, within=within)]
