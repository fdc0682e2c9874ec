"""
Who of a group may take what: competing members on a queue, one owner per partition on a keyed stream.

Nothing here runs by itself: leases and deadlines are judged whenever some member looks, which is the only time when
they matter. A member is alive until its engine is aborted or stalled; from then on its lease runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from mainstem.engine import Delivery, Gained, GroupInfo, GroupSpec, Lost, Part, Revoking, Signal
from mainstem.engines.memory.desk import Desk, Holder
from mainstem.engines.memory.log import Log


class Attendant(Holder, Protocol):
    """A member as its group sees it."""

    id: str
    spec: GroupSpec
    expires: float  # monotonic seconds; infinite while it lives
    signals: list[Signal]


class Group:
    """What both kinds share: desks, members and figures."""

    def __init__(self, name: str, logs: Sequence[Log], from_end: bool, notify: Callable[[], None]) -> None:
        self.name = name
        self.desks = [Desk(log, log.last if from_end else 0) for log in logs]
        self.members: dict[str, Attendant] = {}
        self.handled = 0
        self.failed = 0
        self._notify = notify

    def enter(self, member: Attendant) -> None:
        self.members[member.id] = member

    def exit(self, member: Attendant) -> None:
        """Release all that the member has, uncounted."""
        self.members.pop(member.id, None)
        for desk in self.desks:
            self._release(desk, member, counted=False)
        self._notify()

    def attend(self, member: Attendant, now: float) -> None:
        """Judge leases and deadlines."""
        for each in list(self.members.values()):
            if each.expires <= now:
                self._bury(each)

    def may_take(self, member: Attendant, desk: Desk) -> bool:
        return True

    def take(self, member: Attendant, desk: Desk, limit: int, now: float) -> list[Delivery | Signal]:
        """At most `limit` deliveries of one desk, and the gap before them."""
        gap = desk.gap()
        return [*([gap] if gap else ()), *desk.take(member, limit, now)]

    def due(self, now: float) -> float:
        """When something may happen by itself: a lease that ends, a turn that is due.

        What was due already and was not taken waits for a change, not for the clock.
        """
        return min((each for each in self._dates() if each > now), default=float("inf"))

    def yield_part(self, member: Attendant, part: Part) -> None:
        """A queue has no owners: nothing to hand over."""

    def seek(self, partition: int, ordinal: int) -> None:
        self.desks[partition].seek(ordinal)
        self._notify()

    def info(self) -> GroupInfo:
        oldest = min((ms for desk in self.desks if (ms := desk.oldest_ms()) is not None), default=None)
        return GroupInfo(
            name=self.name,
            lag=sum(desk.lag for desk in self.desks),
            lag_seconds=0.0 if oldest is None else max(0.0, time.time() - oldest / 1000),
            pending=sum(desk.pending for desk in self.desks),
            members=sum(each.expires == float("inf") for each in self.members.values()),
            lost=sum(desk.lost + desk.missing for desk in self.desks),
            dead=sum(len(desk.dead) for desk in self.desks),
            handled=self.handled,
            failed=self.failed,
        )

    def _dates(self) -> Iterator[float]:
        yield from (each.expires for each in self.members.values())
        yield from (desk.due for desk in self.desks)

    def _bury(self, member: Attendant) -> None:
        self.members.pop(member.id, None)
        for desk in self.desks:
            positions = self._release(desk, member, counted=True)
            if positions:
                member.signals.append(Lost(desk.part, positions))

    def _release(self, desk: Desk, member: Attendant, *, counted: bool) -> tuple[str, ...]:
        return desk.give_back(member, counted=counted)


class QueueGroup(Group):
    """Every member may take from the one desk."""


class KeyedGroup(Group):
    """Each desk has one owner; members above their quota hand over, those below it acquire."""

    def __init__(self, name: str, logs: Sequence[Log], from_end: bool, notify: Callable[[], None]) -> None:
        super().__init__(name, logs, from_end, notify)
        self._owners: dict[Part, Attendant] = {}
        self._deadlines: dict[Part, float] = {}

    def attend(self, member: Attendant, now: float) -> None:
        super().attend(member, now)
        for desk in self.desks:
            if self._deadlines.get(desk.part, float("inf")) <= now:
                self._take_away(desk)
        for each in self.members.values():
            self._revoke_surplus(each, now)
        self._acquire(member)

    def may_take(self, member: Attendant, desk: Desk) -> bool:
        return self._owners.get(desk.part) is member and desk.part not in self._deadlines

    def _dates(self) -> Iterator[float]:
        yield from super()._dates()
        yield from self._deadlines.values()

    def yield_part(self, member: Attendant, part: Part) -> None:
        if self._owners.get(part) is member:
            self._release(self.desks[part[1]], member, counted=False)
            self._notify()

    def seek(self, partition: int, ordinal: int) -> None:
        desk = self.desks[partition]
        owner = self._owners.get(desk.part)
        if owner is not None:
            owner.signals.append(Lost(desk.part))
            self._disown(desk)
        super().seek(partition, ordinal)

    def _bury(self, member: Attendant) -> None:
        self.members.pop(member.id, None)
        for desk in self._owned(member):
            self._release(desk, member, counted=True)
            member.signals.append(Lost(desk.part))

    def _release(self, desk: Desk, member: Attendant, *, counted: bool) -> tuple[str, ...]:
        positions = super()._release(desk, member, counted=counted)
        if self._owners.get(desk.part) is member:
            self._disown(desk)
        return positions

    def _take_away(self, desk: Desk) -> None:
        owner = self._owners[desk.part]
        crashed = owner.expires != float("inf")
        self._release(desk, owner, counted=crashed)
        owner.signals.append(Lost(desk.part))

    def _disown(self, desk: Desk) -> None:
        del self._owners[desk.part]
        self._deadlines.pop(desk.part, None)
        desk.hurry()

    def _revoke_surplus(self, member: Attendant, now: float) -> None:
        kept = [desk.part for desk in self._owned(member) if desk.part not in self._deadlines]
        for part in kept[self._quota(member) :]:
            self._deadlines[part] = now + member.spec.drain
            member.signals.append(Revoking(part, self._deadlines[part]))
            self._notify()

    def _acquire(self, member: Attendant) -> None:
        free = [desk.part for desk in self.desks if desk.part not in self._owners]
        room = self._quota(member) - len(self._owned(member))
        for part in free[: max(0, room)]:
            self._owners[part] = member
            member.signals.append(Gained(part))

    def _owned(self, member: Attendant) -> list[Desk]:
        return [desk for desk in self.desks if self._owners.get(desk.part) is member]

    def _quota(self, member: Attendant) -> int:
        each, more = divmod(len(self.desks), len(self.members))
        return each + (sorted(self.members).index(member.id) < more)
