"""
A member of a queue's group: competing consumers on the server's native groups, with leases.

Reading ahead is ``intake``, settling ``desk``, finding what was left behind ``claims``; here a member comes, receives,
keeps its leases, survives that the server loses its group, and goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, cast

import redis

from mainstem.engine import Delivery, GroupSpec, Incident, Lost, Part, Settled, Signal, StreamSpec
from mainstem.engines.redis.claims import Claims
from mainstem.engines.redis.desk import MANY, Desk
from mainstem.engines.redis.groups import create
from mainstem.engines.redis.holds import Hold, Source
from mainstem.engines.redis.intake import Intake
from mainstem.engines.redis.queue_scripts import BACK, QUIT
from mainstem.engines.redis.replies import translate
from mainstem.engines.redis.scripts import Arguments, Call, run_blocking
from mainstem.engines.redis.server import Server
from mainstem.engines.redis.wire import ReplyError, command
from mainstem.errors import MainstemError, Unavailable

_VANISHED = ("NOGROUP", "UNBLOCKED")  # the group or the whole log was deleted under us
_AGAIN = 0.25  # seconds until reading is tried again where the server refuses it for now


class RedisQueueMember:
    """
    One member of one group over queue streams; ``mainstem.engine.Member`` has the contract.

    ``member_id`` must be new for each incarnation: a name used twice would let one take what is pending for the other.
    ``changed`` is called when ``take`` may have something new, for a caller who waits for more than this member.
    """

    def __init__(
        self, server: Server, group: GroupSpec, member_id: str, changed: Callable[[], None] = lambda: None
    ) -> None:
        self._server = server
        self._group = group
        self._changed = changed
        self.consumer = member_id
        name = member_id.encode()
        self._loop = asyncio.get_running_loop()
        self._link = server.link()
        self._intake = Intake(self._link, group, name, self._wake, self._trouble)
        self._claims = Claims(server, group, name, self._intake, self._trouble, self._moved, self._restored)
        self._desk = Desk(server, group, name, self._intake, self._claims)
        self._sources: dict[tuple[str, bool], Source] = {}
        self._waiter: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._repairing = False
        self._error: MainstemError | None = None
        self._refused = ""

    async def follow(self, streams: Sequence[StreamSpec]) -> None:
        """Take part in these from now on; their groups are made where they are missing."""
        wanted = {spec.name: spec for spec in streams}
        new = [Source(spec, self._group.name) for name, spec in wanted.items() if (name, False) not in self._sources]
        await create(self._server, new, self._group.name, self._group.start)
        kept = {key: source for key, source in self._sources.items() if key[0] in wanted}
        self._sources = kept | {(source.spec.name, False): source for source in new}
        self._apply()
        if not self._tasks:
            self._server.renewals(self._group.lease).add(self.consumer, self._renew)
            self._start(self._claims.tend(), "redis queue upkeep")

    async def receive(self, limit: int, wait: float, paused: frozenset[Part]) -> Sequence[Delivery | Signal]:
        """At most ``limit`` deliveries, and what happened; cancelling it loses nothing."""
        taken = self.take(limit, paused)
        if taken or wait <= 0:
            return taken
        await self._wait(wait)
        return self.take(limit, paused)

    def take(self, limit: int, paused: frozenset[Part]) -> list[Delivery | Signal]:
        """What ``receive`` would return now. Raises what made reading impossible, once."""
        if self._error is not None:
            error, self._error = self._error, None
            self._intake.resume()
            raise error
        self._intake.ask(limit)
        if self._intake.pause(paused):
            self._nudge()
        surplus = self._intake.surplus()
        if surplus:
            self._start(self._give_back([page.hold for page in surplus]), "redis queue gives back")
        signals, self._intake.signals = self._intake.signals, []
        taken = self._intake.take(limit)
        self._intake.read()
        return [*signals, *taken]

    async def settle(self, items: Sequence[Settled]) -> Sequence[Delivery]:
        """Acknowledge, return or give up; returns those that another member owns by now. Repeating it is safe."""
        fenced = await self._desk.settle(items)
        self._claims.look()
        return fenced

    async def yield_part(self, part: Part) -> None:
        """Nothing to do: nobody owns the part of a queue."""

    async def leave(self) -> None:
        """Stop reading, give back all that is unsettled, and delete the consumer once nothing is pending for it."""
        self._nudge()
        await self._intake.stop()
        await self._halt()
        self._intake.everything()
        try:
            await self._desk.release(list(self._intake.holds))
            calls = [Call(QUIT, (source.log,), (self._group.name, self.consumer)) for source in self._sources.values()]
            await self._server.run_many("leave the group", calls)
        except MainstemError:
            pass  # the server is away: what is pending there is taken over when its lease ends
        await self._server.release(self._link)

    def cut(self) -> None:
        """End all that runs here, as a crash would."""
        self._intake.cut()
        self._server.renewals(self._group.lease).remove(self.consumer)
        for task in self._tasks:
            task.cancel()
        self._wake()

    # Receiving

    async def _give_back(self, holds: Sequence[Hold]) -> None:
        with contextlib.suppress(MainstemError):
            await self._desk.release(holds)  # where it fails, others take over once we stopped renewing

    async def _wait(self, wait: float) -> None:
        self._waiter = self._loop.create_future()
        timer = self._loop.call_later(wait, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._changed()

    def _nudge(self) -> None:
        """End a read that blocks, without cancelling it: what should be read has changed."""
        wire = self._server.commands.live
        if self._intake.blocking and self._intake.client_id > 0 and wire is not None:
            wire.send(command(b"CLIENT", b"UNBLOCK", self._intake.client_id))

    def _apply(self) -> None:
        sources = list(self._sources.values())
        self._intake.follow(sources)
        self._claims.follow(sources)
        self._nudge()
        self._intake.read()

    def _restored(self, source: Source, length: int) -> None:
        """What was restored from the dead letters is a log of its own, read while there is something in it."""
        key = (source.spec.name, True)
        if (length > 0) == (key in self._sources):
            return
        if length > 0:
            self._sources[key] = Source(source.spec, self._group.name, restored=True)
        else:
            del self._sources[key]
        self._apply()

    # Leases

    def _renew(self, client: redis.Redis) -> None:
        """Runs in the renewal thread: renew what is still ours, and tell the event loop what is not."""
        now = time.monotonic()
        old = [hold for hold in list(self._intake.holds) if now - hold.renewed >= self._group.lease / 5]
        by_source: dict[Source, list[tuple[Hold, bytes]]] = {}
        for hold in old:
            by_source.setdefault(hold.source, []).extend((hold, entry) for entry in tuple(hold.open))
        lost: list[tuple[Hold, bytes]] = []
        for source, pairs in by_source.items():
            for some in _chunks(pairs):
                args: Arguments = [self._group.name, self.consumer, 0, "", *(entry for _, entry in some)]
                states = cast("list[int]", run_blocking(client, Call(BACK, (source.log,), args)))
                lost += [pair for pair, state in zip(some, states, strict=True) if state != 1]
        doubtful = {hold for hold, _ in lost}  # until the loop knows what is lost, settling these asks for the owner
        for hold in old:
            if hold not in doubtful:
                hold.renewed = now
        if lost:
            self._loop.call_soon_threadsafe(self._lost, lost)

    def _lost(self, pairs: Sequence[tuple[Hold, bytes]]) -> None:
        positions: dict[Part, list[str]] = {}
        for hold, entry in pairs:
            if entry not in hold.open:
                continue  # settled meanwhile
            self._intake.settled(hold, entry)
            if not self._desk.known_settled(entry):
                positions.setdefault(hold.source.part, []).append(entry.decode())
        for part, some in positions.items():
            self._intake.tell(Lost(part, tuple(some)))

    def _moved(self, source: Source) -> None:
        """The group was set to another position: nothing of before is ours any more."""
        self._lost(
            [(hold, entry) for hold in list(self._intake.holds) if hold.source is source for entry in [*hold.open]]
        )

    # Trouble

    def _trouble(self, problem: ReplyError | MainstemError) -> None:
        if isinstance(problem, ReplyError) and problem.code in _VANISHED:
            self._repair()
            return
        error = translate(problem, "read the streams") if isinstance(problem, ReplyError) else problem
        if not isinstance(error, Unavailable):
            self._error = error
            self._wake()
            return
        if self._refused != str(error):
            self._refused = str(error)
            part = next(iter(self._sources.values())).part
            self._intake.tell(Incident(part, str(error)))
        self._loop.call_later(_AGAIN, self._intake.resume)

    def _repair(self) -> None:
        if not self._repairing:
            self._repairing = True
            self._intake.rest()
            self._start(self._repaired(), "redis queue repairs")

    async def _repaired(self) -> None:
        """Declare the streams and make their groups again, where they stood by our own checkpoint, never at the end."""
        while True:
            try:
                sources = list(self._sources.values())
                for source in sources:
                    await self._server.declare(source.spec)
                made = await create(self._server, sources, self._group.name, "beginning")
                break
            except MainstemError:
                await asyncio.sleep(_AGAIN)
        for source, where in made.items():
            what = f"the group {self._group.name!r} was gone from the server and was made again at {where}"
            self._intake.tell(Incident(source.part, what))
        self._repairing = False
        self._intake.resume()

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _halt(self) -> None:
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)


def _chunks(pairs: Sequence[tuple[Hold, bytes]]) -> Iterator[Sequence[tuple[Hold, bytes]]]:
    for at in range(0, len(pairs), MANY):
        yield pairs[at : at + MANY]
