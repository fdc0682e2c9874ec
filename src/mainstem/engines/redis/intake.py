"""
Reading a queue ahead of its handlers: one connection, at most one read under way, a bounded buffer.

Reads are never cancelled: whoever waits may leave, and what the read brings goes to the buffer. Owning, settling and
recovering entries is not known here. A read leaves in one write with whatever else was sent on the connection in the
same turn of the event loop, which is how acknowledgements travel with it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mainstem.engine import Delivery, Gap, GroupSpec, Part, Signal
from mainstem.engines.redis.group_scripts import ACCOUNT
from mainstem.engines.redis.holds import Hold, Page, Source, pages_of
from mainstem.engines.redis.link import Link
from mainstem.engines.redis.replies import data, integer, items
from mainstem.engines.redis.scripts import is_unknown
from mainstem.engines.redis.wire import ConnectionGone, Reply, ReplyError, Wire, command
from mainstem.errors import MainstemError, Unavailable

LONGEST_BLOCK = 1.0  # seconds; a new stream or a pause is noticed by then even where the read cannot be interrupted
FIRST_COUNT = 16  # events asked for before their size is known
BUSY = 15_000  # events a second from which reads wait a little, to bring more
LINGER = 0.004
FRESH = 0.02  # seconds for which a look for gaps counts, once a read had left nothing unread


@dataclass(frozen=True, slots=True)
class _Read:
    sources: Sequence[Source]
    count: int


class Intake:
    """The buffer and the reads that fill it. ``wake`` is called when there is something to take, ``trouble`` with an
    error reply; reading then rests until ``resume``."""

    def __init__(
        self,
        link: Link,
        group: GroupSpec,
        consumer: bytes,
        wake: Callable[[], None],
        trouble: Callable[[ReplyError | MainstemError], None],
    ) -> None:
        self._link = link
        self._group = group
        self._consumer = consumer
        self._wake = wake
        self._trouble = trouble
        self._block = min(LONGEST_BLOCK, group.lease / 4)
        self._limit = FIRST_COUNT
        self._count = FIRST_COUNT
        self._each = 1 << 10
        self._sources: list[Source] = []
        self._followed: frozenset[Source] = frozenset()
        self._readable: list[Source] = []
        self._hot: list[Source] = []
        self._rotation = 0
        self._empty = 0
        self._paused: frozenset[Part] = frozenset()
        self._pages: deque[Page] = deque()
        self._reading: asyncio.Future[list[Reply]] | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._resting = False
        self._stopped = False
        self._window = (time.monotonic(), 0)
        self._rate = 0.0
        self._loop = asyncio.get_running_loop()
        self.blocking = False  # whether the read under way may block what is sent behind it
        self.buffered = 0  # events
        self.held = 0  # bytes, received and not settled
        self.holds: set[Hold] = set()  # all that has entries which are not settled
        self.client_id = 0
        self.signals: list[Signal] = []

    def follow(self, sources: list[Source]) -> None:
        """Read these from the next read on."""
        self._sources = sources
        self._followed = frozenset(sources)
        self._select()

    def pause(self, paused: frozenset[Part]) -> bool:
        """Leave these out from the next read on; True if others than before are to be read."""
        if paused == self._paused:
            return False
        self._paused = paused
        before = len(self._readable)
        self._select()
        return len(self._readable) > before

    def ask(self, limit: int) -> None:
        """How many events one ``take`` wants at most: reads are sized by it."""
        self._limit = max(1, limit)

    @property
    def wire(self) -> Wire | None:
        """The connection that reads use, while it lives."""
        return self._link.live

    @property
    def full(self) -> bool:
        """Whether nothing more should be put in."""
        return self.crowded or self.held >= self._group.max_bytes

    @property
    def crowded(self) -> bool:
        """Whether enough waits to be taken; what is held to come again takes room, but must not bar its return."""
        return self.buffered > self._limit

    def tell(self, signal: Signal) -> None:
        """Hand out this signal with what is taken next."""
        self.signals.append(signal)
        self._wake()

    def put(self, pages: list[Page], size: int) -> None:
        """Hand out these too, before what was read."""
        self.held += size
        for page in reversed(pages):
            self.holds.add(page.hold)
            self._pages.appendleft(page)
            self.buffered += page.left
        if pages:
            self._wake()

    def take(self, limit: int) -> list[Delivery]:
        """What was received, at most ``limit``, without what is paused."""
        taken: list[Delivery] = []
        kept: list[Page] = []
        while self._pages and len(taken) < limit:
            page = self._pages.popleft()
            if page.hold.source.part in self._paused:
                kept.append(page)
                continue
            before = page.left
            taken += page.take(limit - len(taken))
            self.buffered -= before - page.left
            if page.left:
                kept.append(page)
        self._pages.extendleft(reversed(kept))
        return taken

    def settled(self, hold: Hold, entry: bytes) -> None:
        """The entry is in our hands no more."""
        hold.open.discard(entry)
        self.let_go(hold, 1)

    def let_go(self, hold: Hold, count: int) -> None:
        """So many entries were taken out of ``hold.open``."""
        self.held -= hold.each * count
        if not hold.open:
            self.holds.discard(hold)

    def kept(self, hold: Hold, entry: bytes) -> None:
        """It still is: settling it failed."""
        hold.open.add(entry)
        self.held += hold.each
        self.holds.add(hold)

    def surplus(self) -> list[Page]:
        """Take out what is to be given back to the group: what is not followed any more, and what is paused and takes
        the room of the others."""
        strays = [page for page in self._pages if page.hold.source not in self._followed]
        paused = [page for page in self._pages if page.hold.source.part in self._paused]
        if sum(page.left for page in paused) >= self._limit and self._readable:
            strays += [page for page in paused if page not in strays]
        return self._drop(strays) if strays else []

    def everything(self) -> list[Page]:
        """Take out all that was not handed out."""
        return self._drop(list(self._pages))

    def _drop(self, pages: list[Page]) -> list[Page]:
        for page in pages:
            self._pages.remove(page)
            self.buffered -= page.left
        return pages

    def read(self, *, at_once: bool = False) -> None:
        """Send the next read unless one is under way, or nothing more fits."""
        if self._reading is not None or self._linger is not None or self._resting or self._stopped or self._scheduled:
            return
        if not self._readable or self.full:
            return
        wire = self._link.live
        if wire is None or not self.client_id:
            self._connect()
            return
        if at_once:
            self._send(wire)
            return
        # At the end of this turn of the loop: acknowledgements sent in it leave in the same write, before the read.
        self._scheduled = True
        self._loop.call_soon(self._send, wire)

    def rest(self) -> None:
        """No more reads until ``resume``."""
        self._resting = True

    def resume(self) -> None:
        """Read on."""
        self._resting = False
        self.read()

    async def stop(self) -> None:
        """No more reads; returns when the one under way has ended, so that nothing it brings is missed."""
        self._stopped = True
        self.cut()
        if self._reading is not None:
            await asyncio.wait([self._reading])
            await asyncio.sleep(0)  # the buffer is filled by a callback

    def cut(self) -> None:
        """End what belongs to this object; the connection is the caller's."""
        self._stopped = True
        if self._linger is not None:
            self._linger.cancel()
        if self._connecting is not None:
            self._connecting.cancel()

    def _select(self) -> None:
        self._readable = [source for source in self._sources if source.part not in self._paused]
        self._hot = [source for source in self._hot if source in self._readable]

    def _connect(self) -> None:
        if self._connecting is None or self._connecting.done():
            self._connecting = self._loop.create_task(self._connected(), name="redis queue connects")

    async def _connected(self) -> None:
        while True:
            try:
                wire = await self._link.get(wait=60.0)
                # The script is made known here, so that no read has to do without it.
                known = [command(b"CLIENT", b"ID"), command(b"SCRIPT", b"LOAD", ACCOUNT.source)]
                reply, _ = await wire.send_many(known, len(known))
            except (ConnectionGone, Unavailable):
                await asyncio.sleep(LINGER)
                continue
            except MainstemError as error:
                self._connecting = None
                self._resting = True
                self._trouble(error)
                return
            self.client_id = reply if isinstance(reply, int) else -1
            self._connecting = None
            self.read()
            return

    # Sending

    def _send(self, wire: Wire) -> None:
        self._scheduled = False
        if not self._readable or self._stopped or self._resting:
            return
        reads, block = self._plan()
        now = time.monotonic()
        looks = [source for read in reads for source in read.sources if self._must_look(source, now)]
        commands = [ACCOUNT.by_sha((s.log, s.group), (self._group.name, 0)) for s in looks]
        commands += [self._packed(read, block) for read in reads]
        self.blocking = block > 0
        self._reading = wire.send_many(commands, len(commands), block)
        self._reading.add_done_callback(lambda done: self._arrived(done, looks, reads, now))

    def _must_look(self, source: Source, now: float) -> bool:
        fresh = FRESH * max(1.0, len(self._sources) / 8)  # many streams: the looks must stay cheap beside the reads
        if source.restored or (not source.behind and now - source.accounted < fresh):
            return False
        source.accounted = now
        return True

    def _packed(self, read: _Read, block: float) -> bytes:
        waits = (b"BLOCK", int(block * 1000)) if block else ()
        keys = [source.log for source in read.sources]
        head = (b"XREADGROUP", b"GROUP", self._group.name, self._consumer, b"COUNT", read.count)
        return command(*head, *waits, b"STREAMS", *keys, *[b">"] * len(keys))

    def _plan(self) -> tuple[list[_Read], float]:
        """The reads to send, and how long they may block. Together they bring at most ``limit`` events."""
        budget = max(1, min(self._count, self._limit, (self._group.max_bytes - self.held) // self._each))
        sources = self._readable
        if len(sources) == 1:
            return [_Read(sources, budget)], self._block
        if not self._hot:
            return self._plan_quiet(budget)
        others = self._next(max(1, self._limit // 2), [source for source in sources if source not in self._hot])
        hot = self._hot[: max(1, self._limit - len(others))]
        reads = [_Read(hot, max(1, (budget - len(others)) // len(hot)))]
        return reads + ([_Read(others, 1)] if others else []), 0.0

    def _plan_quiet(self, budget: int) -> tuple[list[_Read], float]:
        chunk = self._next(self._limit, self._readable)
        count = max(1, budget // len(chunk))
        if len(chunk) == len(self._readable):
            return [_Read(chunk, count)], self._block
        rounds = self._empty // max(1, -(-len(self._readable) // len(chunk)))  # through all of them, with no event
        return [_Read(chunk, count)], min(self._block, 0.25, 0.02 * rounds)

    def _next(self, count: int, sources: list[Source]) -> list[Source]:
        """The next ``count`` in turn."""
        if len(sources) <= count:
            return sources
        first = self._rotation % len(sources)
        self._rotation = first + count
        return (sources + sources)[first : first + count]

    # Receiving

    def _arrived(self, done: asyncio.Future[list[Reply]], looks: list[Source], reads: list[_Read], sent: float) -> None:
        self._reading, self.blocking = None, False
        if done.cancelled() or done.exception() is not None:
            self.client_id = 0
            self.read()
            return
        replies = done.result()
        for source, reply in zip(looks, replies, strict=False):
            self._accounted(source, reply)
        count = self._filled(reads, replies[len(looks) :], sent)
        if self._resting:
            return
        self._pace(count, reads)
        if count * 2 >= sum(read.count * len(read.sources) for read in reads):
            self.read(at_once=True)  # a backlog: the server reads on while we handle what came
        if count or self.signals:
            self._wake()
        if not count or self.buffered <= self._limit:
            self.read()

    def _accounted(self, source: Source, reply: Reply) -> None:
        if is_unknown(reply):
            source.accounted, source.behind, self.client_id = 0.0, True, 0  # known again once connected again
        elif isinstance(reply, ReplyError):
            source.accounted = 0.0  # the read behind it tells what is wrong
        else:
            missing = integer(items(reply)[0])
            if missing:
                self.signals.append(Gap(source.part, missing))

    def _filled(self, reads: list[_Read], replies: Sequence[Reply], sent: float) -> int:
        total = 0
        hot: list[Source] = []
        for read, reply in zip(reads, replies, strict=True):
            if isinstance(reply, ReplyError):
                self._resting = True
                self._trouble(reply)
                continue
            by_log = {source.log: source for source in read.sources}
            counts = dict.fromkeys(read.sources, 0)
            for found in items(reply):
                log, entries = items(found)
                source = by_log[data(log)]
                counts[source] = self._keep(source, entries, sent)
            total += sum(counts.values())
            for source, count in counts.items():
                source.behind = count >= read.count
            hot += [source for source, count in counts.items() if count > read.count // 2]
        if len(self._readable) > 1:
            self._hot = hot
        self._empty = 0 if total else self._empty + 1
        return total

    def _keep(self, source: Source, entries: Reply, sent: float) -> int:
        pages, size = pages_of(source, entries, sent)
        self._pages += pages
        self.holds.update([page.hold for page in pages])
        count = sum(page.left for page in pages)
        self.buffered += count
        self.held += size
        self._each = max(1, size // max(1, count), (self._each * 7) // 8)
        return count

    def _pace(self, count: int, reads: list[_Read]) -> None:
        """Ask for more at a time while reads come back full; wait a little where many events come in small reads."""
        asked = sum(read.count * len(read.sources) for read in reads)
        if count * 2 >= asked:
            self._count = min(self._limit, self._count * 4)
        now = time.monotonic()
        since, seen = self._window
        self._window = since, seen + count
        if now - since > FRESH:
            self._rate = (seen + count) / (now - since)
            self._window = now, 0
        if count and self._rate > BUSY and count * 2 < self._limit and not self.buffered > self._limit:
            self._linger = self._loop.call_later(LINGER, self._lingered)

    def _lingered(self) -> None:
        self._linger = None
        self.read()
