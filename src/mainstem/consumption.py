"""Taking part in a group by hand: items that the caller settles. Retry and dead-letter policies are `processing`'s."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Generic, TypeVar

from mainstem.causes import cause_of
from mainstem.connection import Opened
from mainstem.engine import Back, Dead, Delivery, Done, Gap, GroupSpec, Incident, Lost, Member, Revoking, Settled
from mainstem.errors import ConfigError, DecodeError, LeaseLost
from mainstem.event import Received
from mainstem.hooks import IncidentDetail
from mainstem.names import group_name, seconds

T = TypeVar("T")

LIMIT = 100  # events received ahead
WAIT = 1.0


class Item(Generic[T]):
    """One received event and the right to settle it once."""

    __slots__ = ("_consumption", "_delivery", "_settled", "event")

    def __init__(self, consumption: Consumption[T], delivery: Delivery, event: Received[T]) -> None:
        self._consumption = consumption
        self._delivery = delivery
        self._settled = ""
        self.event = event

    @property
    def data(self) -> T:
        return self.event.data

    async def ack(self) -> None:
        """Handled. Raises `LeaseLost` if another member owns the event by now."""
        await self._settle("ack", Done(self._delivery))

    async def release(self, after: float | str = 0.0) -> None:
        """Let the group have it again, after some seconds; it counts as an attempt."""
        await self._settle("release", Back(self._delivery, seconds(after, "after"), 1))

    async def reject(self, reason: str) -> None:
        """Give it up: move it to the group's dead letters with this reason."""
        cause = self._consumption.cause(self._delivery, None, reason, self.event.attempt)
        await self._settle("reject", Dead(self._delivery, cause))

    async def _settle(self, how: str, settled: Settled) -> None:
        if self._settled:
            raise ConfigError(f"event {self.event.id} was settled already ({self._settled}): settle each item once.")
        await self._consumption.settle(settled)
        self._settled = how


class Consumption(Generic[T]):
    """An async context that receives as one member of a group; iterate over it for `Item`s."""

    def __init__(
        self, opening: Callable[[], Awaitable[Opened[T]]], group: str, *, start: str, lease: float | str
    ) -> None:
        if start not in ("beginning", "end"):
            raise ConfigError(f"start={start!r} of a group is 'beginning' or 'end'; seek moves a group elsewhere.")
        self._opening = opening
        self._group = GroupSpec(name=group_name(group), start=start, lease=seconds(lease, "lease"))
        self._opened: Opened[T] | None = None
        self._member: Member | None = None
        self._waiting: deque[Delivery] = deque()

    async def __aenter__(self) -> Consumption[T]:
        opened = await self._opening()
        member = await opened.connection.engine.join(self._group)
        try:
            await member.follow([opened.spec])
        except BaseException:
            await member.leave()
            raise
        self._member, self._opened = member, opened
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.clear()
        if self._member is not None:
            await self._member.leave()
        self._member = None

    def __aiter__(self) -> AsyncIterator[Item[T]]:
        return self

    async def __anext__(self) -> Item[T]:
        """Wait for the next event; what cannot be decoded goes to the dead letters, its bytes kept."""
        while True:
            while not self._waiting:
                await self._fetch()
            delivery = self._waiting.popleft()
            opened, member = self._live()
            try:
                return Item(self, delivery, opened.envelope.unpack(delivery, delivery.deliveries or 1))
            except DecodeError as error:
                await member.settle([Dead(delivery, self.cause(delivery, error, str(error), 0))])

    def cause(self, delivery: Delivery, error: Exception | None, reason: str, attempts: int) -> bytes:
        """Why a delivery is given up, as a dead letter keeps it."""
        opened, _ = self._live()
        position = opened.envelope.position_of(delivery)
        return cause_of(
            delivery,
            error,
            position=position,
            reason=reason,
            attempts=attempts,
            group=self._group.name,
            handler="consume",
        )

    async def settle(self, settled: Settled) -> None:
        """Settle one delivery; raises `LeaseLost` where it was fenced off."""
        _, member = self._live()
        if await member.settle([settled]):
            raise LeaseLost(
                f"event at {settled.delivery.position} of {settled.delivery.part[0]!r} belongs to another member of "
                f"group {self._group.name!r} now: its result was refused; use a longer lease or settle sooner."
            )

    async def _fetch(self) -> None:
        _, member = self._live()
        for item in await member.receive(LIMIT, WAIT, frozenset()):
            if isinstance(item, Delivery):
                self._waiting.append(item)
            elif isinstance(item, Revoking):
                self._waiting = deque(d for d in self._waiting if d.part != item.part)
                await member.yield_part(item.part)
            elif isinstance(item, Lost):
                lost = item
                self._waiting = deque(d for d in self._waiting if not _is_lost(d, lost))
            elif isinstance(item, (Gap, Incident)):
                self._report(item)

    def _report(self, item: Gap | Incident) -> None:
        opened, _ = self._live()
        missing = item.missing if isinstance(item, Gap) else 0
        kind, what = (
            ("gap", f"retention took {missing} unread events") if isinstance(item, Gap) else ("recreated", item.what)
        )
        opened.connection.hooks.incident(IncidentDetail(kind, item.part[0], self._group.name, what, missing))

    def _live(self) -> tuple[Opened[T], Member]:
        if self._opened is None or self._member is None:
            raise ConfigError("consume(...) is an async context: use `async with stream.consume(group) as received:`.")
        return self._opened, self._member


def _is_lost(delivery: Delivery, lost: Lost) -> bool:
    return delivery.part == lost.part and (not lost.positions or delivery.position in lost.positions)
