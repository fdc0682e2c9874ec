"""
Publishing above the contract: coalescing, back-pressure, deadlines. One `Publisher` an app, for all its streams.

Publishes of one loop tick leave together; while flights are in the air, what comes next waits and leaves with the
next one. What waits is bounded in events and bytes: a slow server slows publishers down. What was certainly not
stored is sent again until the deadline; what is unknown is never sent again by itself.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Iterable, Sequence

from mainstem.codec import event_id
from mainstem.engine import Engine, Part, Published, Record
from mainstem.errors import MainstemError, OutcomeUnknown, Unavailable
from mainstem.hooks import Hooks, PublishDetail

Item = tuple[Part, Record]

FLIGHTS = 8  # writes in the air at once
FLIGHT = 128  # events of one: small enough that the next are encoded while the server stores these
EVENTS_HELD = 20_000  # accepted and not yet answered
BYTES_HELD = 32 << 20
SLICE = 500  # events of one explicit batch that leave together
_ENVELOPE = 128  # bytes that a record takes besides its data


class _Load:
    """What one flight takes; `since` is when its first event was accepted."""

    __slots__ = ("futures", "items", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.items: list[Item] = []
        self.futures: list[asyncio.Future[str]] = []


class Publisher:
    """Sends records through one engine. Safe to use from many tasks of one loop."""

    def __init__(self, engine: Engine, hooks: Hooks, deadline: float) -> None:
        self._engine = engine
        self._hooks = hooks
        self._deadline = deadline
        self._loads: deque[_Load] = deque()  # what the next flights take, the first to leave first
        self._flights: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._events = 0
        self._bytes = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._loop = asyncio.get_running_loop()

    async def publish(self, part: Part, record: Record) -> str:
        """Store one record and return its position; raises what went wrong.

        Cancelling the caller does not take the record back: it may still be stored.
        """
        future = self.offer(part, record)
        if future is None:
            await self._room(record)
            future = self._accept(part, record)
        return await future

    def offer(self, part: Part, record: Record) -> asyncio.Future[str] | None:
        """Take one record if there is room for it now: a future of its position, for hot paths; else None."""
        if self._events >= EVENTS_HELD or self._bytes >= BYTES_HELD or self._queue:
            return None
        return self._accept(part, record)

    def _accept(self, part: Part, record: Record) -> asyncio.Future[str]:
        future: asyncio.Future[str] = self._loop.create_future()
        loads = self._loads
        if not loads or len(loads[-1].items) == FLIGHT:
            loads.append(_Load(time.monotonic()))
        load = loads[-1]
        load.items.append((part, record))
        load.futures.append(future)
        self._events += 1
        self._bytes += len(record.data) + len(record.meta) + len(record.key) + _ENVELOPE
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._depart)
        return future

    async def publish_batch(self, slices: Iterable[Sequence[Item]]) -> list[Published]:
        """Store slices of records in order; an outcome for each record. Two slices are in the air at once.

        A slice is taken (and so encoded) while the one before it is being stored. After a record that could not be
        sent within the deadline none of the later ones is.
        """
        until = time.monotonic() + self._deadline
        outcomes: list[Published] = []
        flights: deque[tuple[Sequence[Item], asyncio.Task[Sequence[Published]]]] = deque()
        try:
            for items in slices:
                if outcomes and isinstance(outcomes[-1], Unavailable):
                    outcomes += [outcomes[-1]] * len(items)
                    continue
                flights.append((items, self._loop.create_task(self._once(items, until), name="mainstem-publish")))
                await asyncio.sleep(0)  # it writes before the next slice is encoded
                if len(flights) == 2:
                    outcomes += await self._land(flights, until)
            while flights:
                outcomes += await self._land(flights, until)
        finally:
            for _, flight in flights:
                flight.cancel()
        return outcomes

    async def _land(
        self, flights: deque[tuple[Sequence[Item], asyncio.Task[Sequence[Published]]]], until: float
    ) -> Sequence[Published]:
        """The outcomes of the first flight; if it could not send everything, of all that are in the air."""
        items, flight = flights.popleft()
        outcomes = await flight
        if not isinstance(outcomes[-1], Unavailable):
            return outcomes
        items, outcomes = list(items), list(outcomes)
        while flights:  # later ones must not be sent again before the earlier ones
            more, flight = flights.popleft()
            items += more
            outcomes += await flight
        return await self._send(items, until, outcomes)

    async def _once(self, items: Sequence[Item], until: float) -> Sequence[Published]:
        if self._events >= EVENTS_HELD or self._bytes >= BYTES_HELD or self._queue:
            try:
                await self._room(items[0][1])
            except Unavailable as error:
                return [error] * len(items)
        begun = time.monotonic()
        size = sum(_size(record) for _, record in items)
        self._events += len(items)
        self._bytes += size
        try:
            outcomes = await self._store(items, until - begun)
        finally:
            self._events -= len(items)
            self._bytes -= size
            self._wake_next()
        if self._hooks.listening_to_publishes:
            self._tell(items, outcomes, time.monotonic() - begun)
        return outcomes

    async def close(self) -> None:
        """Wait for everything accepted to be answered."""
        while self._loads or self._flights:
            if self._flights:
                await asyncio.wait(self._flights)
            else:
                await asyncio.sleep(0)

    def abort(self) -> None:
        """Drop what is in the air, whose callers get `OutcomeUnknown`, and what waits, which was never sent."""
        loads, self._loads = self._loads, deque()
        for load in loads:
            self._events -= len(load.items)
            self._bytes -= sum(_size(record) for _, record in load.items)
            for future, (_, record) in zip(load.futures, load.items, strict=True):
                if not future.done():
                    future.set_exception(Unavailable(f"event {event_id(record)} was not sent: the app was cut off."))
        for flight in self._flights:
            flight.cancel()

    def _depart(self) -> None:
        self._scheduled = False
        while self._loads and len(self._flights) < FLIGHTS:
            load = self._loads.popleft()
            until = load.since + self._deadline
            flight = self._loop.create_task(self._fly(load.items, load.futures, until), name="mainstem-publish")
            self._flights.add(flight)
            flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        self._wake_next()
        if self._loads and not self._scheduled:
            self._depart()

    async def _fly(self, items: list[Item], futures: list[asyncio.Future[str]], until: float) -> None:
        outcomes: Sequence[Published] = ()
        try:
            outcomes = await self._send(items, until)
        finally:
            self._events -= len(items)
            self._bytes -= sum(_size(record) for _, record in items)
            if len(outcomes) != len(items):
                outcomes = [_unknown(record) for _, record in items]
            for future, outcome in zip(futures, outcomes, strict=True):
                if future.done():
                    continue
                if isinstance(outcome, str):
                    future.set_result(outcome)
                else:
                    future.set_exception(_fresh(outcome))

    async def _send(
        self, items: Sequence[Item], until: float, outcomes: Sequence[Published] | None = None
    ) -> list[Published]:
        """Send, and send again from the first record on that was certainly not stored, until the deadline.

        `outcomes`: what a first try gave.
        """
        begun = time.monotonic()
        pause = 0.02
        known = list(outcomes) if outcomes is not None else list(await self._store(items, until - begun))
        while (unsent := _unsent(known)) < len(known) and time.monotonic() + pause < until:
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, 1.0)
            del known[unsent:]
            known += await self._store(items[unsent:], until - time.monotonic())
        if self._hooks.listening_to_publishes:
            self._tell(items, known, time.monotonic() - begun)
        return known

    async def _store(self, items: Sequence[Item], wait: float) -> Sequence[Published]:
        """An outcome for each, also from an engine that was closed meanwhile."""
        try:
            return await self._engine.publish(items, max(wait, 0.0))
        except Unavailable as error:
            return [error] * len(items)

    async def _room(self, record: Record) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._queue.append(waiter)
        try:
            async with asyncio.timeout(self._deadline):
                await waiter
        except TimeoutError:
            raise Unavailable(
                f"event {event_id(record)} waited {self._deadline:g} s behind {self._events:,} others that the server "
                "has not taken: it was not sent; publish more slowly or look at the server's health."
            ) from None
        finally:
            self._wake_next()

    def _wake_next(self) -> None:
        """Let the first in the queue go on; it wakes the one behind it."""
        while self._queue and self._events < EVENTS_HELD and self._bytes < BYTES_HELD:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _tell(self, items: Sequence[Item], outcomes: Sequence[Published], seconds: float) -> None:
        unknown = sum(isinstance(outcome, OutcomeUnknown) for outcome in outcomes)
        failed = sum(not isinstance(outcome, str) for outcome in outcomes) - unknown
        streams = tuple(sorted({part[0] for part, _ in items}))
        self._hooks.published(PublishDetail(streams, len(items), failed, unknown, seconds))


def _size(record: Record) -> int:
    return len(record.data) + len(record.meta) + len(record.key) + _ENVELOPE


def _unsent(outcomes: Sequence[Published]) -> int:
    """Where the closing run of certainly unsent records begins; the length if there is none."""
    at = len(outcomes)
    while at and isinstance(outcomes[at - 1], Unavailable):
        at -= 1
    return at


def _unknown(record: Record) -> OutcomeUnknown:
    return OutcomeUnknown(f"publishing of event {event_id(record)} was cut off: it may be stored.", (event_id(record),))


def _fresh(error: MainstemError) -> MainstemError:
    """One exception object cannot be raised in many tasks: tracebacks would pile up on it."""
    copy = type(error).__new__(type(error), *error.args)  # not __init__: an error's own may take other arguments
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    return copy
