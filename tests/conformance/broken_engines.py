"""Memory engines that are each broken in one way, as real engines have been. The suite must catch every one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from mainstem.engine import (
    Abilities,
    Back,
    DeadLetter,
    Delivery,
    Done,
    Gap,
    GroupSpec,
    Part,
    Published,
    Record,
    Revoking,
    Settled,
    Signal,
    StreamSpec,
)
from mainstem.engines.memory import MemoryEngine
from mainstem.engines.memory.member import MemoryMember


class Member:
    """Passes everything on; the broken ones differ in one method."""

    def __init__(self, member: MemoryMember, engine: MemoryEngine) -> None:
        self.member = member
        self.engine = engine

    async def follow(self, streams: Sequence[StreamSpec]) -> None:
        await self.member.follow(streams)

    async def receive(self, limit: int, wait: float, paused: frozenset[Part]) -> Sequence[Delivery | Signal]:
        return await self.member.receive(limit, wait, paused)

    async def settle(self, items: Sequence[Settled]) -> Sequence[Delivery]:
        return await self.member.settle(items)

    async def count(self, stream: str, handled: int, failed: int) -> None:
        await self.member.count(stream, handled, failed)

    async def yield_part(self, part: Part) -> None:
        await self.member.yield_part(part)

    async def leave(self) -> None:
        await self.member.leave()


class Engine(MemoryEngine):
    Member: ClassVar[type[Member]] = Member

    async def join(self, group: GroupSpec) -> Member:  # type: ignore[override]
        return self.Member(await super().join(group), self)


class Sound(Engine):
    """Nothing is broken: the control."""


class LosesAnEvent(Engine):
    """Acknowledges an event that it did not store."""

    async def publish(self, records: Sequence[tuple[Part, Record]], wait: float) -> Sequence[Published]:
        kept = [each for n, each in enumerate(records) if n % 10 != 9]
        outcomes = list(await super().publish(kept, wait))
        return [outcomes.pop(0) if n % 10 != 9 else "7" for n in range(len(records))]


class LosesWhatIsCancelled(Engine):
    """Takes from the stream before it gives up control."""

    class Member(Member):
        async def receive(self, limit: int, wait: float, paused: frozenset[Part]) -> Sequence[Delivery | Signal]:
            found = await super().receive(limit, wait, paused)
            await asyncio.sleep(0.002)
            return found


class ReordersAKey(Engine):
    """Delivers the newest first."""

    class Member(Member):
        async def receive(self, limit: int, wait: float, paused: frozenset[Part]) -> Sequence[Delivery | Signal]:
            return list(reversed(await super().receive(limit, wait, paused)))


class AcksEarly(Engine):
    """Acknowledges what it delivers."""

    class Member(Member):
        async def receive(self, limit: int, wait: float, paused: frozenset[Part]) -> Sequence[Delivery | Signal]:
            found = await super().receive(limit, wait, paused)
            await self.member.settle([Done(each) for each in found if isinstance(each, Delivery)])
            return found

        async def settle(self, items: Sequence[Settled]) -> Sequence[Delivery]:
            return []


class ForgetsAttempts(Engine):
    """Every delivery is the first."""

    class Member(Member):
        async def receive(self, limit: int, wait: float, paused: frozenset[Part]) -> Sequence[Delivery | Signal]:
            found = await super().receive(limit, wait, paused)
            return [_replaced(each, deliveries=1) if isinstance(each, Delivery) else each for each in found]


class NeverRedelivers(Engine):
    """A crashed member keeps its events for ever."""

    def stall(self) -> None:
        pass


class DuplicatesOnRelease(Engine):
    """Publishes a copy of what is released, and keeps the original too."""

    class Member(Member):
        async def settle(self, items: Sequence[Settled]) -> Sequence[Delivery]:
            for item in items:
                if isinstance(item, Back):
                    await self.engine.publish([(item.delivery.part, item.delivery.record)], 1.0)
            return await super().settle(items)


class DuplicatesOnSettling(Engine):
    """Gives back what is acknowledged."""

    class Member(Member):
        async def settle(self, items: Sequence[Settled]) -> Sequence[Delivery]:
            return await super().settle([Back(each.delivery) if isinstance(each, Done) else each for each in items])


class LetsAZombieCommit(Engine):
    """Acknowledges by position, whoever has the event by now."""

    class Member(Member):
        async def settle(self, items: Sequence[Settled]) -> Sequence[Delivery]:
            for delivery in await super().settle(items):
                desk = self.member._groups[delivery.part[0]].desks[delivery.part[1]]
                desk._out = {
                    n: lease for n, lease in desk._out.items() if not _is_of(lease.turn.entry.ordinal, delivery)
                }
                desk._again = [each for each in desk._again if not _is_of(each.ordinal, delivery)]
            return []


class CommitsPastTheUnfinished(Engine):
    """Acknowledging an event acknowledges all before it, as a naive offset does."""

    class Member(Member):
        async def settle(self, items: Sequence[Settled]) -> Sequence[Delivery]:
            for item in items:
                desk = self.member._groups[item.delivery.part[0]].desks[item.delivery.part[1]]
                for number, lease in list(desk._out.items()):
                    if lease.turn.entry.ordinal < int(item.delivery.position):
                        desk._return(number)
            return await super().settle(items)


class DropsForeignFields(Engine):
    """A dead letter has only the fields that mainstem knows."""

    @property
    def can(self) -> Abilities:
        can = super().can
        return _with_dead(can, _DropsExtra(can))


class StealsLiveLeases(Engine):
    """A member that does not receive is taken for dead."""

    class Member(Member):
        async def receive(self, limit: int, wait: float, paused: frozenset[Part]) -> Sequence[Delivery | Signal]:
            found = await super().receive(limit, wait, paused)
            self.member.stall()
            return found


class MiscountsGaps(Engine):
    """Reports one event too few."""

    class Member(Member):
        async def receive(self, limit: int, wait: float, paused: frozenset[Part]) -> Sequence[Delivery | Signal]:
            found = await super().receive(limit, wait, paused)
            return [Gap(each.part, each.missing - 1) if isinstance(each, Gap) else each for each in found]


class HandsOverTooEarly(Engine):
    """Yields a partition while its events are in flight."""

    class Member(Member):
        async def receive(self, limit: int, wait: float, paused: frozenset[Part]) -> Sequence[Delivery | Signal]:
            found = await super().receive(limit, wait, paused)
            for each in found:
                if isinstance(each, Revoking):
                    await self.member.yield_part(each.part)
            return found


class CountsReleases(Engine):
    """A release counts as an attempt."""

    class Member(Member):
        async def settle(self, items: Sequence[Settled]) -> Sequence[Delivery]:
            return await super().settle([_replaced(x, attempts=1) if isinstance(x, Back) else x for x in items])


class IgnoresTheDelay(Engine):
    """Delivers a delayed release at once."""

    class Member(Member):
        async def settle(self, items: Sequence[Settled]) -> Sequence[Delivery]:
            return await super().settle([_replaced(x, after=0.0) if isinstance(x, Back) else x for x in items])


class RestoresToEveryGroup(Engine):
    """Republishes what is restored."""

    @property
    def can(self) -> Abilities:
        can = super().can
        return _with_dead(can, _Republishes(can, self))


class IgnoresPausing(Engine):
    """Delivers from paused partitions."""

    class Member(Member):
        async def receive(self, limit: int, wait: float, paused: frozenset[Part]) -> Sequence[Delivery | Signal]:
            return await super().receive(limit, wait, frozenset())


class IgnoresTheLimit(Engine):
    """Delivers twice what it is asked for."""

    class Member(Member):
        async def receive(self, limit: int, wait: float, paused: frozenset[Part]) -> Sequence[Delivery | Signal]:
            return await super().receive(2 * limit, wait, paused)


class NeverStartsAtTheEnd(Engine):
    """A new group always gets everything."""

    async def join(self, group: GroupSpec) -> Member:
        return await super().join(_replaced(group, start="beginning"))


class LeavesATask(Engine):
    """Starts a task and forgets it."""

    def abort(self) -> None:
        super().abort()
        self.forgotten = asyncio.ensure_future(asyncio.sleep(3600))


CAUGHT_BY: dict[type[Engine], tuple[str, ...]] = {
    LosesAnEvent: ("test_publish_stores_in_order", "test_each_event_goes_to_one_member"),
    LosesWhatIsCancelled: ("test_a_cancelled_receive_loses_nothing[0]",),
    ReordersAKey: ("test_events_of_a_key_keep_their_order",),
    AcksEarly: ("test_what_a_crashed_member_held_comes_again_counted", "test_unsettled_events_survive_the_only_member"),
    ForgetsAttempts: ("test_crashes_count_up", "test_a_crash_counts_for_the_oldest_event"),
    NeverRedelivers: ("test_what_a_crashed_member_held_comes_again_counted", "test_a_crashed_owner_is_replaced"),
    DuplicatesOnRelease: ("test_a_released_event_comes_again[0-0]",),
    DuplicatesOnSettling: ("test_a_known_group_goes_on_where_it_was[0]", "test_settling_twice_changes_nothing[2]"),
    LetsAZombieCommit: ("test_a_zombie_settles_nothing", "test_a_zombie_commits_nothing"),
    CommitsPastTheUnfinished: ("test_a_later_success_never_commits_past_an_unfinished_event",),
    DropsForeignFields: ("test_a_dead_letter_keeps_every_byte[0]",),
    StealsLiveLeases: ("test_a_slow_handler_keeps_its_events", "test_a_slow_handler_keeps_its_parts"),
    MiscountsGaps: ("test_what_retention_took_is_counted[0]",),
    HandsOverTooEarly: ("test_a_part_is_handed_over_without_overlap",),
    CountsReleases: ("test_a_released_event_comes_again[2-0]",),
    IgnoresTheDelay: ("test_a_delayed_release_comes_when_it_is_due[0]",),
    RestoresToEveryGroup: ("test_restored_letters_reach_their_group_only[0]",),
    IgnoresPausing: ("test_a_paused_part_is_left_alone[0]",),
    IgnoresTheLimit: ("test_receive_hands_out_at_most_the_limit[0]",),
    NeverStartsAtTheEnd: ("test_a_new_group_starts_where_it_says[0]",),
    LeavesATask: ("test_nothing_is_left_behind",),
}
"""Each must fail each of its tests; `Sound` passes them all."""


class _DropsExtra:
    def __init__(self, can: Abilities) -> None:
        assert can.dead is not None
        self.inner = can.dead

    async def dead(self, stream: str, group: str, after: str, limit: int) -> Sequence[DeadLetter]:
        letters = await self.inner.dead(stream, group, after, limit)
        return [_letter(each, _replaced(each.record, extra=())) for each in letters]

    async def restore(self, stream: str, group: str, ids: Sequence[str]) -> int:
        return await self.inner.restore(stream, group, ids)

    async def purge(self, stream: str, group: str, ids: Sequence[str]) -> int:
        return await self.inner.purge(stream, group, ids)


class _Republishes(_DropsExtra):
    def __init__(self, can: Abilities, engine: Engine) -> None:
        super().__init__(can)
        self.engine = engine

    async def dead(self, stream: str, group: str, after: str, limit: int) -> Sequence[DeadLetter]:
        return await self.inner.dead(stream, group, after, limit)

    async def restore(self, stream: str, group: str, ids: Sequence[str]) -> int:
        letters = [each for each in await self.dead(stream, group, "", 1000) if each.id in ids]
        await self.engine.publish([(each.part, each.record) for each in letters], 1.0)
        return await self.purge(stream, group, ids)


def _replaced(struct, **changes):  # type: ignore[no-untyped-def]
    return msgspec.structs.replace(struct, **changes)


def _letter(letter: DeadLetter, record: Record) -> DeadLetter:
    return DeadLetter(letter.id, letter.part, letter.position, record, letter.cause, letter.at_ms)


def _with_dead(can: Abilities, dead: _DropsExtra) -> Abilities:
    return Abilities(can.name, can.shared, can.durable, can.retention, can.until_read, can.gaps, dead, can.admin)


def _is_of(ordinal: int, delivery: Delivery) -> bool:
    return str(ordinal) == delivery.position
