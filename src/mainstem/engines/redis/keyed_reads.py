"""
Reading ahead of the handlers over all owned partitions: one connection, one XREAD at a time, a bounded buffer.

XREAD leaves nothing behind on the server, so what does not fit is dropped and read again. Between two reads, once a
second, it looks for entries that were trimmed unread and for restored dead letters: only then is what was read exact.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from mainstem.engine import Part
from mainstem.engines.redis import keyed_scripts
from mainstem.engines.redis.keyed_codec import LogFacts, before
from mainstem.engines.redis.keyed_commits import Commits
from mainstem.engines.redis.keyed_holdings import Holdings
from mainstem.engines.redis.keyed_part import Owned
from mainstem.engines.redis.link import Link
from mainstem.engines.redis.replies import integer, items, translate
from mainstem.engines.redis.scripts import Call, run_many
from mainstem.engines.redis.server import Server
from mainstem.engines.redis.wire import ConnectionGone, Reply, ReplyError, Wire, command
from mainstem.errors import ConfigError, MainstemError, PermissionDenied, Unavailable

BLOCK = 1.0
"""Seconds a read waits for events at most, and between two looks at the logs."""

ENOUGH = 100
"""Room in a partition's window from which it is read again."""

BUSY = 20_000
WATCHED = 0.05
"""Events a second from which it is worth more to gather than to hurry, and for how many seconds they are counted."""

LINGER = 0.004
"""Seconds without reading after a small read while it is busy."""

FIRST = 64
MOST = 10_000
"""Events in the first read, when nothing is known of their size, and in any."""

TOGETHER = 500
"""Partitions in one read, and in one look."""


class Reads:
    """Fills `holdings`; `limit` and `paused` are what the receiver last asked for."""

    def __init__(self, server: Server, holdings: Holdings, commits: Commits) -> None:
        self.limit = 0
        self.paused: frozenset[Part] = frozenset()
        self._server = server
        self._holdings = holdings
        self._commits = commits
        self._link: Link = server.link()
        self._wire: Wire | None = None
        self._client = 0  # the server's number of the connection; 0: it would not tell
        self._planned: Sequence[Owned] = ()
        self._logs = b""  # the logs of the plan, packed
        self._reading: frozenset[Part] = frozenset()  # and its partitions
        self._blocked = False
        self._each = 1024.0  # bytes an event has, about
        self._most = FIRST  # events in one read
        self._turn = 0
        self._window = (time.monotonic(), 0)
        self._quiet = 0
        self._looked = 0.0
        self._woken = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._live(), name="redis keyed reads")

    def wake(self) -> None:
        """There may be more to read, or more room: plan again."""
        self._woken.set()
        wire = self._server.commands.live
        if self._blocked and self._client and wire is not None and self._left_out():
            self._blocked = False
            wire.send(command(b"CLIENT", b"UNBLOCK", self._client))

    def stop(self) -> None:
        """Read no more."""
        self._task.cancel()

    async def close(self) -> None:
        """The same, and end the connection."""
        self.stop()
        await asyncio.wait([self._task])
        await self._server.release(self._link)

    async def _live(self) -> None:
        while True:
            try:
                await self._round()
            except ConnectionGone:
                continue
            except Unavailable:
                await asyncio.sleep(LINGER)  # the link itself pauses between attempts
            except MainstemError as error:
                self._report(error)
                await asyncio.sleep(BLOCK)

    def _report(self, error: MainstemError) -> None:
        if isinstance(error, PermissionDenied | ConfigError):
            self._holdings.failure = error
            self._holdings.changed()

    async def _round(self) -> None:
        self._woken.clear()
        if not self._holdings.owned or not self.limit:
            await self._woken.wait()
            return
        wire = await self._link.get()
        if wire is not self._wire:
            await self._check(wire)
        if time.monotonic() - self._looked >= BLOCK:
            await self._look(wire)
        plan, count, block = self._plan()
        if not plan:
            await self._pause()
            return
        got = await self._read(wire, plan, count, block)
        self._measure(got)
        if self._holdings.busy and got * 2 < self.limit:
            await asyncio.sleep(LINGER)
        elif got:
            await asyncio.sleep(0)  # who waits for this comes first, then the next read is planned

    def _measure(self, got: int) -> None:
        now = time.monotonic()
        since, seen = self._window
        seen += got
        if now - since < WATCHED:
            self._window = since, seen
            return
        self._holdings.busy = seen > BUSY * (now - since)
        self._window = now, 0

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(BLOCK):
                await self._woken.wait()
        except TimeoutError:
            pass

    # ---------------------------------------------------------------------------------------------------- planning

    def _readable(self) -> list[Owned]:
        paused = self.paused
        return [o for o in self._holdings.owned.values() if o.room >= ENOUGH and o.part not in paused]

    def _left_out(self) -> bool:
        return any(owned.part not in self._reading for owned in self._readable())

    def _room(self) -> int:
        """How many events may be read now, by the limits of events and of bytes."""
        buffered = self._holdings.buffered
        if buffered > self.limit and self.paused:
            self._holdings.give_up(self.paused)
            buffered = self._holdings.buffered
        if buffered > self.limit:
            return 0
        held = sum([owned.acks.open for owned in self._holdings.owned.values()])
        by_size = int(self._holdings.identity.group.max_bytes / self._each) - held
        return max(min(2 * self.limit - buffered, by_size), 0 if held else 1)

    def _plan(self) -> tuple[list[Owned], int, float]:
        """Which partitions to read, how many events of each, and for how long to wait for the first."""
        readable, room = self._readable(), self._room()
        if not readable or not room:
            return [], 0, 0.0
        block = max(0.001, BLOCK - (time.monotonic() - self._looked))
        most = min(room, self._most)
        if len(readable) <= min(most, TOGETHER):
            return readable, most // len(readable), block
        most = min(most, TOGETHER)
        if self._quiet * most >= len(readable):  # nothing anywhere: wait for all, and drop what does not fit
            return readable[:TOGETHER], 1, min(block, 0.05 if len(readable) > TOGETHER else block)
        self._turn = (self._turn + most) % len(readable)
        return (readable + readable)[self._turn : self._turn + most], 1, 0.0

    # ----------------------------------------------------------------------------------------------------- reading

    async def _read(self, wire: Wire, plan: Sequence[Owned], count: int, block: float) -> int:
        """Send one read and take in what it brings; returns how many events."""
        if plan != self._planned:
            self._planned = plan
            self._reading = frozenset([owned.part for owned in plan])
            self._logs = b"".join([_bulk(owned.log) for owned in plan])
        head = b"*%d\r\n$5\r\nXREAD\r\n$5\r\nCOUNT\r\n%b" % (2 * len(plan) + (6 if block else 4), _bulk(b"%d" % count))
        waits = b"$5\r\nBLOCK\r\n" + _bulk(b"%d" % max(1, int(block * 1000))) if block else b""
        places = b"".join([_bulk(owned.position.encode()) for owned in plan])
        self._blocked = block > 0
        try:
            reply = await wire.send(b"%b%b$7\r\nSTREAMS\r\n%b%b" % (head, waits, self._logs, places), block)
        finally:
            self._blocked = False
        if isinstance(reply, ReplyError):
            if reply.code == "UNBLOCKED":
                return 0
            raise translate(reply, "read the owned partitions")
        got = self._take_in({owned.log: owned for owned in plan}, items(reply))
        self._quiet = 0 if got else self._quiet + 1
        if got * 2 > count * len(plan):
            self._most = min(self._most * 4, MOST)
        return got

    def _take_in(self, plan: dict[bytes, Owned], found: Sequence[Reply]) -> int:
        holdings = self._holdings
        left = 2 * self.limit - holdings.buffered
        total = size = 0
        for each in found:
            log, entries = items(each)
            owned = plan[log]  # type: ignore[index]
            page = items(entries)[: max(0, min(owned.room, left - total))]
            if not page or not holdings.holds(owned):
                continue
            size += owned.take_in(page)  # type: ignore[arg-type]
            total += len(page)
            if owned.ready:
                holdings.full[owned] = None
            if owned.on_probation:
                self.advance(owned)
        if total:
            average = size / total + 200
            self._each = max(average, 0.8 * self._each + 0.2 * average)
            holdings.changed()
        return total

    def advance(self, owned: Owned) -> None:
        """Journal the next event that needs it before it is handed out, if there is one."""
        if owned.propose(time.monotonic()):
            self._commits.mark(owned)

    # --------------------------------------------------------------------------------------------------- looking on

    async def _look(self, wire: Wire) -> None:
        """See what was trimmed unread, and what was restored."""
        self._looked = time.monotonic()
        owned = list(self._holdings.owned.values())
        for at in range(0, len(owned), TOGETHER):
            parts = owned[at : at + TOGETHER]
            calls = [Call(keyed_scripts.LOOK, (o.log, o.keys[3]), (o.again_position,)) for o in parts]
            for each, reply in zip(parts, await run_many(wire, calls), strict=True):
                await self._learn(each, reply)

    async def _learn(self, owned: Owned, reply: Reply) -> None:
        if isinstance(reply, ReplyError):
            raise translate(reply, f"look at the log of {owned.part}")
        *facts, letters = items(reply)
        if not self._holdings.holds(owned):
            return
        about = LogFacts.of(facts)
        self.account(owned, about, await self.left(owned, about))
        if restored := items(letters):
            owned.take_in_restored(restored)  # type: ignore[arg-type]
        self.advance(owned)

    async def left(self, owned: Owned, facts: LogFacts) -> int:
        """How many entries are left of a run of settled ones of which trimming took a part."""
        run = owned.ledger.straddling(facts)
        if run is None:
            return 0
        span = Call(keyed_scripts.SPAN, (owned.log,), (run.first, run.last))
        return integer(await self._server.run("count what is left of a run", span))

    def account(self, owned: Owned, facts: LogFacts, left: int) -> None:
        """Report what was trimmed unread, if anything was; no read of it may be under way."""
        gap = owned.account(facts, left)
        if owned.since:
            self._commits.mark(owned)
        if gap is not None:
            self._holdings.tell(gap)

    async def _check(self, wire: Wire) -> None:
        """A new connection may lead to a server that lacks the last writes: what was read must still be there."""
        reply = await wire.send(command(b"CLIENT", b"ID"))
        self._client = reply if isinstance(reply, int) else 0
        owned = list(self._holdings.owned.values())
        identity = self._holdings.identity
        calls = [Call(keyed_scripts.CHECK, o.keys[:2], (identity.me, o.token, o.position)) for o in owned]
        for each, answer in zip(owned, await run_many(wire, calls), strict=True):
            self._judge(each, answer)
        self._wire = wire

    def _judge(self, owned: Owned, answer: Reply) -> None:
        if isinstance(answer, ReplyError):
            if answer.code == "GONE":
                self._holdings.lose_state(owned)
            elif answer.code == "LOST":
                self._holdings.lose(owned)
            else:
                raise translate(answer, f"check partition {owned.part}")
            return
        there, *rest = items(answer)
        facts = LogFacts.of(rest)
        behind = before(facts.last, owned.position)
        if there or not (behind or (facts.first and not before(owned.position, facts.first))):
            return
        self._holdings.lose(owned, "the server lost the last events that were read; it reads on from the last commit.")


def _bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)
