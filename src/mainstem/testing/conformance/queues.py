"""Queue mode: competing consumers, leases, releases, redelivery. And what holds for members in both modes."""

from __future__ import annotations

import asyncio
import time

import pytest

from mainstem.engine import Done
from mainstem.testing.conformance.scene import BOTH, SOON, Scene, ids, record, until
from mainstem.testing.elsewhere import zombie


class Queues:
    async def test_each_event_goes_to_one_member(self, scene: Scene) -> None:
        """Members of a group share the events: none comes twice, none is left out."""
        spec = await scene.stream()
        readers = [await scene.reader(spec), await scene.reader(spec, engine=await scene.another())]
        wanted = [f"e{n}" for n in range(200)]
        await scene.publish_ids(spec, *wanted)

        async def all_came() -> bool:
            for reader in readers:
                await reader.done(*await reader.receive(10, 0.05))
            return sum(len(each.deliveries) for each in readers) >= 200

        await until(all_came, "200 events come")
        await readers[0].nothing(0.1)
        assert readers[0].deliveries, "the first member got nothing"
        assert readers[1].deliveries, "the second member got nothing"
        assert sorted(ids(readers[0].deliveries) + ids(readers[1].deliveries)) == sorted(wanted)

    @pytest.mark.parametrize("partitions", BOTH)
    async def test_every_group_gets_every_event(self, scene: Scene, partitions: int) -> None:
        """Groups do not take events away from one another."""
        spec = await scene.stream(partitions)
        readers = [await scene.reader(spec, name=name) for name in ("a", "b", "c")]
        await scene.publish_ids(spec, "e1", "e2")
        for reader in readers:
            assert ids(await reader.get(2, settle=True)) == ["e1", "e2"]

    @pytest.mark.parametrize("partitions", BOTH)
    async def test_a_new_group_starts_where_it_says(self, scene: Scene, partitions: int) -> None:
        """At the beginning it gets what is stored; at the end, all that is published once `follow` has returned."""
        spec = await scene.stream(partitions)
        await scene.publish_ids(spec, "old")
        late = await scene.reader(spec, name="late", start="end")
        await scene.publish_ids(spec, "new")
        assert ids(await late.get(1)) == ["new"]
        early = await scene.reader(spec, name="early", start="beginning")
        assert ids(await early.get(2)) == ["old", "new"]

    @pytest.mark.parametrize("partitions", BOTH)
    async def test_a_known_group_goes_on_where_it_was(self, scene: Scene, partitions: int) -> None:
        """`start` is for new groups only: a member that joins later gets what was not settled, and nothing again."""
        spec = await scene.stream(partitions)
        first = await scene.reader(spec)
        await scene.publish_ids(spec, "a", "b", "c")
        await first.get(2, settle=True)
        await first.member.leave()
        second = await scene.reader(spec, start="end")
        assert ids(await second.get(1, settle=True)) == ["c"]
        await second.nothing(0.2)

    @pytest.mark.parametrize("partitions", BOTH)
    async def test_a_first_delivery_is_number_one(self, scene: Scene, partitions: int) -> None:
        """`deliveries` counts this delivery too; part, position, and time are those of the stored event."""
        spec = await scene.stream(partitions)
        (position,) = await scene.publish_ids(spec, "a")
        (delivery,) = await (await scene.reader(spec)).get(1)
        assert (delivery.part, delivery.position, delivery.deliveries) == ((spec.name, 0), position, 1)
        assert abs(delivery.recorded_ms / 1000 - time.time()) < 60

    async def test_what_a_crashed_member_held_comes_again_counted(self, scene: Scene) -> None:
        """Within the lease and two seconds another member gets it, and sees that it was delivered before."""
        spec = await scene.stream()
        doomed = await scene.another()
        first, second = await scene.reader(spec, engine=doomed), await scene.reader(spec)
        await scene.publish_ids(spec, "a", "b", "c")
        held = await first.get(3)
        assert await first.done(held[1]) == []
        await scene.linger()
        scene.crash(doomed)
        again = await second.get(2, settle=True, within=scene.recovery)
        assert {each.record.id: each.deliveries for each in again} == {b"a": 2, b"c": 2}
        assert [each.record for each in again] == [record("a"), record("c")]
        await second.nothing(0.3)

    async def test_crashes_count_up(self, scene: Scene) -> None:
        """Each crash with the event in hand adds one."""
        spec = await scene.stream()
        await scene.publish_ids(spec, "a")
        for crashes in range(3):
            engine = await scene.another()
            (delivery,) = await (await scene.reader(spec, engine=engine)).get(1, within=scene.recovery)
            assert delivery.deliveries == crashes + 1
            scene.crash(engine)

    async def test_unsettled_events_survive_the_only_member(self, scene: Scene) -> None:
        """What was received and not settled is not acknowledged, whatever time passes before somebody joins."""
        spec = await scene.stream()
        doomed = await scene.another()
        await scene.publish_ids(spec, "a")
        await (await scene.reader(spec, engine=doomed)).get(1)
        scene.crash(doomed)
        assert (await scene.figures(spec)).pending == 1
        late = await scene.reader(spec)
        assert ids(await late.get(1, within=scene.recovery)) == ["a"]

    @pytest.mark.parametrize("attempts", [0, 1, 3])
    @pytest.mark.parametrize("partitions", BOTH)
    async def test_a_released_event_comes_again(self, scene: Scene, partitions: int, attempts: int) -> None:
        """`Back` gives it to the group again at once; `deliveries` grows by the attempts that it states."""
        spec = await scene.stream(partitions)
        reader = await scene.reader(spec)
        await scene.publish_ids(spec, "a")
        (first,) = await reader.get(1)
        await reader.back(first, attempts=attempts)
        (second,) = await reader.get(1, within=2.0)
        assert second.record == first.record
        assert second.deliveries == 1 + attempts
        assert await reader.done(second) == []
        await reader.nothing(scene.lease * 1.5)

    @pytest.mark.parametrize("partitions", BOTH)
    async def test_a_delayed_release_comes_when_it_is_due(self, scene: Scene, partitions: int) -> None:
        """Not before `after` seconds have passed, and soon after; other events go on meanwhile."""
        spec = await scene.stream(partitions)
        reader = await scene.reader(spec)
        after = scene.lease / 2
        await scene.publish_ids(spec, "a")
        (first,) = await reader.get(1)
        released = time.monotonic()
        await reader.back(first, after, attempts=1)
        await scene.publish_ids(spec, "b")
        assert ids(await reader.get(1, settle=True)) == ["b"]
        (second,) = await reader.get(1, settle=True, within=after + 2.0)
        assert second.record.id == b"a"
        assert second.deliveries == 2
        assert time.monotonic() - released >= after * 0.9

    async def test_a_slow_handler_keeps_its_events(self, scene: Scene) -> None:
        """A live lease is not stolen, though its member neither receives nor settles for longer than the lease."""
        spec = await scene.stream()
        slow = await scene.reader(spec)
        await scene.publish_ids(spec, "a", "b")
        held = await slow.get(2)
        other = await scene.reader(spec, engine=await scene.another())
        await other.nothing(scene.lease * 2.5)
        assert await slow.done(*held) == []
        await other.nothing(scene.lease * 1.5)

    async def test_a_zombie_settles_nothing(self, scene: Scene) -> None:
        """What was taken over meanwhile is returned as fenced, and stays with its new owner."""
        spec = await scene.stream()
        doomed = await scene.another()
        async with zombie(scene.harness, await scene.another(), spec, scene.group()) as old:
            await scene.publish_ids(spec, "a")
            assert await old.receive(1) == ["a"]
            await old.freeze()
            new = await scene.reader(spec, engine=doomed)
            await new.get(1, within=scene.recovery + scene.lease)
            assert await old.settle("done") == ["a"]
        scene.crash(doomed)
        last = await scene.reader(spec)
        (again,) = await last.get(1, settle=True, within=scene.recovery)
        assert (again.record.id, again.deliveries) == (b"a", 3)

    @pytest.mark.parametrize("partitions", BOTH)
    async def test_settling_twice_changes_nothing(self, scene: Scene, partitions: int) -> None:
        """A second acknowledgement of the same delivery neither raises nor brings anything back."""
        spec = await scene.stream(partitions)
        reader = await scene.reader(spec)
        await scene.publish_ids(spec, "a", "b")
        first, second = await reader.get(2)
        assert await reader.done(first) == []
        await reader.done(first)
        assert await reader.done(second) == []
        await reader.nothing(scene.lease * 1.5)

        async def settled() -> bool:
            figures = await scene.figures(spec)
            return (figures.pending, figures.lag) == (0, 0)

        await until(settled, "nothing is pending and nothing lags")

    @pytest.mark.parametrize("partitions", BOTH)
    async def test_a_cancelled_receive_loses_nothing(self, scene: Scene, partitions: int) -> None:
        """200 cancellations at any moment: every event still comes, once."""
        spec = await scene.stream(partitions)
        reader = await scene.reader(spec)
        for n in range(200):
            receiving = asyncio.create_task(reader.receive(1, 1.0))
            if n % 2:
                await asyncio.sleep(n % 5 / 1000)
            await scene.publish_ids(spec, f"e{n}")
            await asyncio.sleep(n % 3 / 1000)
            receiving.cancel()
            await asyncio.wait([receiving])
        await reader.get(200 - len(reader.deliveries))
        assert sorted(ids(reader.deliveries)) == sorted(f"e{n}" for n in range(200))
        assert await reader.done(*reader.deliveries) == []
        await reader.nothing(0.2)

    @pytest.mark.parametrize("partitions", BOTH)
    async def test_receive_hands_out_at_most_the_limit(self, scene: Scene, partitions: int) -> None:
        """However much is stored, a call returns at most `limit` deliveries."""
        spec = await scene.stream(partitions)
        reader = await scene.reader(spec)
        await scene.publish_ids(spec, *(f"e{n}" for n in range(50)))
        assert ids(await reader.get(1)) == ["e0"]
        for _ in range(5):
            assert len(await reader.receive(3, 1.0)) <= 3
        await reader.get(50 - len(reader.deliveries))
        assert sorted(ids(reader.deliveries)) == sorted(f"e{n}" for n in range(50))

    @pytest.mark.parametrize("partitions", BOTH)
    async def test_a_paused_part_is_left_alone(self, scene: Scene, partitions: int) -> None:
        """While it is paused nothing of it is delivered, other streams go on; afterwards it goes on where it was."""
        paused, other = await scene.stream(partitions), await scene.stream(partitions)
        reader = await scene.reader(paused, other)
        parts = frozenset((paused.name, partition) for partition in paused.parts)
        await reader.receive(1, 0.1, parts)
        await scene.publish_ids(paused, "a", "b")
        await scene.publish_ids(other, "c")
        got: list[str] = []

        async def other_came() -> bool:
            got.extend(ids(await reader.receive(10, 0.05, parts)))
            return bool(got)

        await until(other_came, "an event of the stream that is not paused")
        await reader.nothing(0.3, parts)
        assert got == ["c"]
        assert ids(await reader.get(2)) == ["a", "b"]

    @pytest.mark.parametrize("partitions", BOTH)
    async def test_leave_releases_everything(self, scene: Scene, partitions: int) -> None:
        """What a member had not settled comes to another at once, uncounted; what it had settled does not."""
        spec = await scene.stream(partitions)
        first = await scene.reader(spec, lease=30.0)
        await scene.publish_ids(spec, "a", "b", "c")
        held = await first.get(3)
        assert await first.done(held[0]) == []
        await first.member.leave()
        second = await scene.reader(spec, engine=await scene.another(), lease=30.0)
        again = await second.get(2, settle=True, within=3.0)
        assert sorted((each.record.id, each.deliveries) for each in again) == [(b"b", 1), (b"c", 1)]
        await second.nothing(0.3)

    @pytest.mark.parametrize("partitions", BOTH)
    async def test_follow_again_changes_the_streams(self, scene: Scene, partitions: int) -> None:
        """A pattern's set changes: what is new is delivered, what is gone is not, what stays is undisturbed."""
        stays, goes, comes = [await scene.stream(partitions) for _ in range(3)]
        reader = await scene.reader(stays, goes)
        await scene.publish_ids(stays, "s1")
        await scene.publish_ids(goes, "g1")
        assert sorted(ids(await reader.get(2, settle=True))) == ["g1", "s1"]
        await scene.publish_ids(comes, "c1")
        await reader.member.follow([stays, comes])
        await scene.publish_ids(goes, "g2")
        await scene.publish_ids(stays, "s2")
        assert sorted(ids(await reader.get(2, settle=True))) == ["c1", "s2"]
        await reader.nothing(0.3)
        heir = await scene.reader(goes)
        assert ids(await heir.get(1, settle=True)) == ["g2"]

    async def test_one_member_follows_queues_and_keyed_streams(self, scene: Scene) -> None:
        """A pattern may match streams of both modes."""
        queue, keyed = await scene.stream(0), await scene.stream(2)
        reader = await scene.reader(queue, keyed)
        await scene.publish_ids(queue, "q")
        await scene.publish_ids(keyed, "k")
        assert sorted(ids(await reader.get(2, settle=True))) == ["k", "q"]

    async def test_a_hundred_streams_in_one_member(self, scene: Scene) -> None:
        """Every stream of a wide pattern is served; none starves."""
        specs = [await scene.stream() for _ in range(100)]
        reader = await scene.reader(*specs)
        await scene.publish_to([((spec.name, 0), record(f"{spec.name}/{n}")) for spec in specs for n in range(3)])
        await reader.get(300, settle=True, within=2 * SOON)
        assert sorted(ids(reader.deliveries)) == sorted(f"{spec.name}/{n}" for spec in specs for n in range(3))

    async def test_a_waiting_member_wakes_for_an_event(self, scene: Scene) -> None:
        """An event is delivered when it is published, not when the wait is over."""
        spec = await scene.stream()
        reader = await scene.reader(spec)
        receiving = asyncio.create_task(reader.get(1, within=10.0))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        await scene.publish_ids(spec, "a")
        assert ids(await receiving) == ["a"]
        assert time.monotonic() - started < 1.0

    @pytest.mark.parametrize("partitions", BOTH)
    async def test_a_member_holds_a_bounded_number_of_bytes(self, scene: Scene, partitions: int) -> None:
        """What is delivered and unsettled stays near `max_bytes`; settling makes room. One event always fits."""
        spec = await scene.stream(partitions)
        bound, size = 256 << 10, 32 << 10
        reader = await scene.reader(spec, max_bytes=bound)
        sent = [record(f"e{n}", data=bytes(size)) for n in range(64)]
        await scene.publish(spec, *sent)
        held = await reader.get(1)
        for _ in range(10):
            held += await reader.receive(100, 0.1)
        assert len(held) * size <= 2 * bound
        while held:
            await reader.member.settle([Done(each) for each in held])
            held = await reader.receive(100, 0.5) if len(reader.deliveries) < len(sent) else []
        assert sorted(ids(reader.deliveries)) == sorted(each.id.decode() for each in sent)

    async def test_an_event_larger_than_the_bound_is_delivered(self, scene: Scene) -> None:
        """`max_bytes` never blocks a single event."""
        spec = await scene.stream()
        reader = await scene.reader(spec, max_bytes=1000)
        await scene.publish(spec, record("a", data=bytes(5000)), record("b", data=bytes(5000)))
        assert ids(await reader.get(2, settle=True)) == ["a", "b"]
