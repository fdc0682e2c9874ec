"""
What a queue member does besides reading: takes over what others left behind, delivers again what is due, counts gaps,
sweeps. One task, about once a second, in bounded steps.

It starts slowly: one entry, and twice as many each time those were settled. An entry that ends the process it is
delivered to thus comes alone after the first time, and does not use up the attempts of its neighbours.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import Callable, Sequence

from mainstem.engine import Gap, GroupSpec
from mainstem.engines.redis.group_scripts import ACCOUNT
from mainstem.engines.redis.groups import sweep_call
from mainstem.engines.redis.holds import Hold, Source, pages_of
from mainstem.engines.redis.intake import Intake
from mainstem.engines.redis.queue_scripts import CLAIM, RETAKE, TIDY
from mainstem.engines.redis.replies import checked, data, integer, items
from mainstem.engines.redis.scripts import Arguments, Call
from mainstem.engines.redis.server import Server
from mainstem.engines.redis.wire import Reply, ReplyError
from mainstem.errors import MainstemError

TICK = 1.0
SCAN = 500  # pending entries one script looks at
SCANS = 8  # such scripts in one tick
MOST = 100  # entries taken over at a time
STREAMS = 200  # streams looked at in one tick
SILENT = 60.0  # seconds after which a consumer with nothing pending is deleted; six leases if that is longer


class Claims:
    """The upkeep of one member. ``trouble`` gets the error replies that mean a group or log is gone, ``moved`` the
    sources whose group was set to another position, ``restored`` how much waits in a group's restored letters."""

    def __init__(
        self,
        server: Server,
        group: GroupSpec,
        consumer: bytes,
        intake: Intake,
        trouble: Callable[[ReplyError], None],
        moved: Callable[[Source], None],
        restored: Callable[[Source, int], None],
    ) -> None:
        self._server = server
        self._group = group
        self._consumer = consumer
        self._intake = intake
        self._trouble = trouble
        self._moved = moved
        self._restored = restored
        self._sources: list[Source] = []
        self._turn = 0
        self._trust = 1
        self._claimed: set[Hold] = set()
        self._more = False
        self._due: list[tuple[float, int, Source, bytes, Hold | None]] = []
        self._number = 0
        self._event = asyncio.Event()
        self._next = 0.0
        self._tidied = time.monotonic()

    def follow(self, sources: Sequence[Source]) -> None:
        """Care for these."""
        self._sources = list(sources)

    def later(self, source: Source, entry: bytes, due: float, kept: Hold | None) -> None:
        """Deliver it again at ``due`` (monotonic seconds) if it is still ours; ``kept`` renews its lease until then."""
        self._number += 1
        heapq.heappush(self._due, (due, self._number, source, entry, kept))
        self._event.set()

    def look(self) -> None:
        """Something was settled: take over more at once if that was all we had taken over."""
        if self._claimed and not any(hold.open for hold in self._claimed):
            self._claimed.clear()
            self._trust = min(MOST, self._trust * 2)
            if self._more:
                self.hurry()

    def hurry(self) -> None:
        """Something is not as expected: look now."""
        self._next = 0.0
        self._event.set()

    async def tend(self) -> None:
        """Until cancelled. A server that is away is asked again at the next tick."""
        while True:
            await self._pause()
            try:
                await self._deliver_due()
                if time.monotonic() >= self._next:
                    self._next = time.monotonic() + min(TICK, self._group.lease / 4) * random.uniform(0.7, 1.0)
                    await self._tick()
            except MainstemError:
                self._next = time.monotonic() + min(TICK, self._group.lease / 4)

    async def _pause(self) -> None:
        until = min(self._next, self._due[0][0]) if self._due else self._next
        self._event.clear()
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await self._event.wait()
        except TimeoutError:
            pass

    async def _tick(self) -> None:
        sources = self._some()
        pending = await self._account([source for source in sources if not source.restored])
        self._more = False
        await self._claim(pending + [source for source in sources if source.restored])
        await self._sweep(sources)

    def _some(self) -> list[Source]:
        if len(self._sources) <= STREAMS:
            return self._sources
        first = self._turn % len(self._sources)
        self._turn = first + STREAMS
        return (self._sources + self._sources)[first : first + STREAMS]

    async def _account(self, sources: Sequence[Source]) -> list[Source]:
        """Count gaps and keep checkpoints; returns those with something pending."""
        calls = [Call(ACCOUNT, (s.log, s.group, s.again), (self._group.name, 1)) for s in sources]
        pending: list[Source] = []
        gone: ReplyError | None = None
        for source, reply in zip(sources, await self._server.run_many("look after the group", calls), strict=True):
            if isinstance(reply, ReplyError):
                gone = reply if reply.code == "NOGROUP" else gone
                continue
            missing, waiting, _, restored, seeks = (integer(number) for number in items(reply))
            self._report(source, missing)
            if waiting:
                pending.append(source)
            self._restored(source, restored)
            if source.seeks not in (-1, seeks):
                self._moved(source)
            source.seeks = seeks
        if gone is not None:
            self._trouble(gone)
        return pending

    def _report(self, source: Source, missing: int) -> None:
        if missing > 0:
            self._intake.tell(Gap(source.part, missing))

    async def _claim(self, sources: Sequence[Source]) -> None:
        self._claimed = {hold for hold in self._claimed if hold.open}  # lost ones are settled by nobody here
        if self._claimed or self._intake.full:
            return
        budget = self._trust
        waiting = list(sources)
        random.shuffle(waiting)
        for _ in range(SCANS):
            if not waiting or budget <= 0:
                break
            source = waiting[0]
            taken, on = await self._claim_from(source, budget)
            budget -= taken
            if not on:
                waiting.pop(0)
        self._more = self._more or bool(waiting)

    async def _claim_from(self, source: Source, want: int) -> tuple[int, bool]:
        """How many were taken over, and whether there is more to look at."""
        lease = int(self._group.lease * 1000)
        sent = time.monotonic()
        args = (self._group.name, self._consumer, lease, source.cursor, SCAN, want)
        found = items(await self._server.run("take over events", Call(CLAIM, (source.log, source.group), args)))
        seen = data(found[3])
        more = integer(found[4]) == 1
        source.cursor = b"(" + seen if seen else b"-"
        self._more = self._more or more
        taken = self._put(source, found, sent, claimed=True)
        return taken, bool(seen) and not more

    def _put(self, source: Source, found: Sequence[Reply], sent: float, *, claimed: bool) -> int:
        """Hand out what was taken, but for what is in our own hands already; returns how many were taken."""
        ours = {entry for hold in self._intake.holds if hold.source is source for entry in hold.open}
        entries = items(found[0])
        taken = [(entry, integer(count)) for entry, count in zip(entries, items(found[1]), strict=True)]
        new = [(entry, count) for entry, count in taken if data(items(entry)[0]) not in ours]
        pages, size = pages_of(source, [entry for entry, _ in new], sent, [count for _, count in new])
        self._report(source, len(items(found[2])))
        if claimed:
            self._claimed.update(page.hold for page in pages)
        self._intake.put(pages, size)
        return len(taken)

    async def _deliver_due(self) -> None:
        """Deliver again what was given back and is due, where there is room for it."""
        now = time.monotonic()
        due: dict[Source, list[bytes]] = {}
        count = 0
        while self._due and self._due[0][0] <= now and count < MOST and not self._intake.crowded:
            _, _, source, entry, kept = heapq.heappop(self._due)
            due.setdefault(source, []).append(entry)
            count += 1
            if kept is not None:
                self._intake.settled(kept, entry)
        for source, entries in due.items():
            args: Arguments = [self._group.name, self._consumer, *entries]
            found = await self._server.run("deliver again", Call(RETAKE, (source.log, source.group), args))
            self._put(source, items(found), now, claimed=False)
        if self._due and self._due[0][0] <= now:
            await asyncio.sleep(0.01)  # no room: handlers are busy

    async def _sweep(self, sources: Sequence[Source]) -> None:
        calls = [sweep_call(source.spec, 0, TICK) for source in sources if not source.restored]
        silent = max(SILENT, 6 * self._group.lease)
        if time.monotonic() - self._tidied > silent / 2:
            self._tidied = time.monotonic()
            calls += [Call(TIDY, (source.log,), (self._group.name, int(silent * 1000))) for source in sources]
        for reply in await self._server.run_many("sweep", [call for call in calls if call is not None]):
            if isinstance(reply, ReplyError) and reply.code != "NOGROUP":
                checked(reply, "sweep")
