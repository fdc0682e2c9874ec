"""
A member of a keyed stream's group: each partition has one leased, fenced owner, and a cursor instead of a pending list.

* stream -> one log per partition, `{stream:partition}`
* group -> a hash beside each log: owner, until, token, cursor, read, done, try, crashes
* ack -> a commit of the cursor, refused unless owner and token are still ours
* position -> the entry's id; its ordinal among the partition's deliveries is the tag

Here the contract meets its parts: `keyed_reads` fetch, `keyed_commits` acknowledge, `keyed_leases` own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

from mainstem.engine import Back, Dead, Delivery, Done, GroupSpec, Part, Settled, Signal, StreamSpec
from mainstem.engines.redis.keyed_commits import Commits
from mainstem.engines.redis.keyed_holdings import Holdings, Identity
from mainstem.engines.redis.keyed_leases import Leases
from mainstem.engines.redis.keyed_part import Owned
from mainstem.engines.redis.keyed_reads import Reads
from mainstem.engines.redis.server import Server
from mainstem.errors import MainstemError

UNSURE = 0.5
"""Part of a lease after its last renewal from which `settle` asks the server whether it still counts."""


class RedisKeyedMember:
    """`mainstem.engine.Member` over keyed streams; `member_id` must be new for each incarnation.

    `changed` is called when `take` may have something new, for a caller who waits for more than this member.
    """

    def __init__(
        self, server: Server, group: GroupSpec, member_id: str, changed: Callable[[], None] | None = None
    ) -> None:
        self._server = server
        self._group = group
        self._loop = asyncio.get_running_loop()
        self._changed = changed
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._holdings = Holdings(Identity(member_id, group), self._wake)
        self._commits = Commits(server, self._holdings)
        self._reads = Reads(server, self._holdings, self._commits)
        self._leases = Leases(server, self._holdings, self._commits, self._reads)

    async def follow(self, streams: Sequence[StreamSpec]) -> None:
        """Take part in exactly these; a first share of their partitions is acquired before it returns."""
        await self._leases.follow(streams)

    async def receive(self, limit: int, wait: float, paused: frozenset[Part]) -> Sequence[Delivery | Signal]:
        """At most `limit` deliveries, and what happened; cancelling it loses nothing."""
        taken = self.take(limit, paused)
        if taken or wait <= 0:
            return taken
        deadline = self._loop.time() + wait
        while not taken and self._loop.time() < deadline:
            await self._wait(deadline)
            taken = self.take(limit, paused)
        return taken

    def take(self, limit: int, paused: frozenset[Part]) -> list[Delivery | Signal]:
        """What `receive` would return now. Raises what made reading or committing impossible, once."""
        failure, self._holdings.failure = self._holdings.failure, None
        if failure is not None:
            raise failure
        self._reads.limit = max(1, limit)
        self._reads.paused = paused
        taken = self._holdings.take(limit, paused)
        self._reads.wake()
        return taken

    async def settle(self, items: Sequence[Settled]) -> Sequence[Delivery]:
        """
        Settle these; returns those that are not ours any more.

        They are committed when this returns, if the server could be reached; except that while more of the partition
        is at work, or events come by the ten thousands a second, commits gather for a moment: if one is then refused,
        `receive` tells `Lost`. What was given up never waits.
        """
        now = time.monotonic()
        fenced: list[Delivery] = []
        marks: dict[Owned, list[int]] = {}
        urgent: dict[Owned, None] = {}
        part: Part | None = None
        owned: Owned | None = None
        ordinals: list[int] = []
        for item in items:
            delivery = item.delivery
            if delivery.part is not part:
                part = delivery.part
                owned = self._holdings.held(part, now)
                if owned is not None:
                    ordinals = marks.setdefault(owned, [])
            tag = delivery.tag
            if type(item) is Done and type(tag) is int and owned is not None and tag >= owned.first:
                ordinals.append(tag)
            elif owned is None or not owned.is_current(delivery):
                fenced.append(delivery)
            elif self._settle_other(owned, item, now):
                urgent[owned] = None
        for owned, ordinals in marks.items():
            self._mark(owned, ordinals, now, urgent)
        self._reads.wake()
        if urgent:
            fenced += await self._flush(urgent, items)
        return fenced

    async def yield_part(self, part: Part) -> None:
        """Commit what is settled of the partition and hand it over; unsettled events run again at its next owner."""
        await self._leases.yield_part(part)

    async def leave(self) -> None:
        """Commit what is settled and release every partition; if the server is away they are free when leases end."""
        with contextlib.suppress(MainstemError):
            await self._leases.leave()
        await self._leases.close()
        await self._commits.close()
        await self._reads.close()
        self._end()

    def cut(self) -> None:
        """End all that runs here, as a crash would."""
        self._leases.stop()
        self._commits.stop()
        self._reads.stop()
        self._end()

    # --------------------------------------------------------------------------------------------------- settling

    def _mark(self, owned: Owned, ordinals: Sequence[int], now: float, urgent: dict[Owned, None]) -> None:
        if ordinals:
            owned.settle(ordinals, now)
        self._reads.advance(owned)
        if not owned.since:
            return
        self._commits.mark(owned)
        idle = owned.acks.open == 0 and not self._holdings.busy
        if idle or now - owned.renewed > UNSURE * self._group.lease:
            urgent[owned] = None

    def _settle_other(self, owned: Owned, item: Settled, now: float) -> bool:
        """Settle what is no plain success; True if it has to be stored at once."""
        if owned.is_settled(item.delivery):
            return False
        if isinstance(item, Back):
            owned_again = owned.give_back(item, now)
            self._holdings.put_off(owned, item, owned_again, now)
            self._alarm()
            return False
        if isinstance(item, Dead):
            owned.bury(item, now)
            return True
        owned.settle_one(item.delivery, now)
        return True

    async def _flush(self, parts: dict[Owned, None], items: Sequence[Settled]) -> list[Delivery]:
        with contextlib.suppress(MainstemError):  # it stays to be sent; `receive` tells what is wrong
            await self._commits.flush(parts)
        lost = {owned.part: owned for owned in parts if not self._holdings.holds(owned)}
        if not lost:
            return []
        deliveries = [item.delivery for item in items if item.delivery.part in lost]
        return [delivery for delivery in deliveries if lost[delivery.part].is_current(delivery)]

    # -------------------------------------------------------------------------------------------------- receiving

    async def _wait(self, deadline: float) -> None:
        self._waiter = self._loop.create_future()
        timer = self._loop.call_at(deadline, self._wake_waiter)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        self._wake_waiter()
        if self._changed is not None:
            self._changed()

    def _wake_waiter(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _alarm(self) -> None:
        """Wake up when the next delivery that was given back is due."""
        due = self._holdings.next_due
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = self._loop.call_later(max(0.0, due - time.monotonic()), self._come_due)

    def _come_due(self) -> None:
        for owned in self._holdings.come_due():
            self._reads.advance(owned)
        self._alarm()
        self._wake()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wake()
