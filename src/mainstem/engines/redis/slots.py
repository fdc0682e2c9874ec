"""
Who waits for which reply on one connection, and for how long: the bookkeeping both wires share.

A slot is made when a command is sent and leaves only with its replies or with the connection, whatever became of the
task that waited: that is why a cancelled command can never take, or leave behind, another one's reply.
No socket and no parsing here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from mainstem.engines.redis.wire import ConnectionGone, NotSent, Reply, ReplyLost

TICKS = 4
"""Looks at the connection within one reply timeout."""


class Patient(asyncio.Future[Reply]):
    """The future of a command that the server may sit on for ``within`` seconds."""

    within: float


class Batch:
    """Many replies behind one future."""

    __slots__ = ("count", "future", "replies", "within")

    def __init__(self, count: int, future: asyncio.Future[list[Reply]], within: float) -> None:
        if count < 1:
            raise ValueError("a batch without replies would wait for ever")
        self.count = count
        self.future = future
        self.within = within
        self.replies: list[Reply] = []


Slots: TypeAlias = "deque[asyncio.Future[Reply] | Batch]"


class Unsolicited(Exception):
    """The server said something nobody had asked for: replies and commands no longer correspond."""


def patient(loop: asyncio.AbstractEventLoop, within: float) -> Patient:
    """A slot for the reply to a command that blocks."""
    future = Patient(loop=loop)
    future.within = within
    return future


def deliver(slots: Slots, replies: list[Reply]) -> None:
    """Hand replies to those that wait longest. Raises Unsolicited when nobody waits."""
    at, end = 0, len(replies)
    while at < end:
        if not slots:
            raise Unsolicited(f"the server sent {replies[at]!r:.200} without being asked")
        slot = slots[0]
        if isinstance(slot, Batch):
            at = _fill(slots, slot, replies, at)
            continue
        slots.popleft()
        if not slot.done():
            slot.set_result(replies[at])
        at += 1


def _fill(slots: Slots, batch: Batch, replies: list[Reply], at: int) -> int:
    end = at + batch.count - len(batch.replies)
    batch.replies += replies[at:end]
    if len(batch.replies) == batch.count:
        slots.popleft()
        if not batch.future.done():
            batch.future.set_result(batch.replies)
    return min(end, len(replies))


def abandon(slots: Slots, unsent: int, where: str, cause: Exception | None) -> None:
    """Settle every slot after the connection ended; the last ``unsent`` ones had not been handed to the system."""
    sent = len(slots) - unsent
    for number, slot in enumerate(slots):
        future = slot.future if isinstance(slot, Batch) else slot
        if future.done():
            continue
        if number >= sent:
            fail(future, not_sent(where, cause))
            continue
        arrived = slot.replies if isinstance(slot, Batch) else ()
        lost = ReplyLost(
            f"the connection to {where} ended before the reply came: the command may have been applied.", arrived
        )
        lost.__cause__ = cause
        fail(future, lost)
    slots.clear()


def not_sent(where: str, cause: Exception | None) -> NotSent:
    """The error of a command that found the connection ended."""
    error = NotSent(f"the connection to {where} ended before the command was sent: it was not applied.")
    error.__cause__ = cause
    return error


def fail(future: asyncio.Future[Reply] | asyncio.Future[list[Reply]], error: ConnectionGone) -> None:
    """Raise ``error`` in whoever waits; nobody waiting is no fault, so the loop must not complain about it."""
    future.set_exception(error)
    future.exception()


def silence(where: str, timeout: float) -> TimeoutError:
    """Why a connection was ended by its pulse."""
    return TimeoutError(f"{where} owed a reply and was silent for more than {timeout:g} s")


class Pulse:
    """
    Notices a connection on which an awaited reply stays away too long: one coarse timer, nothing per command.

    The owner adds to ``beats`` when the server is heard. Time is counted in looks, not by the clock, so that an event
    loop held up by a long computation does not mistake its own absence for the server's. Notices after ``timeout``
    plus what the oldest command may block, at the latest a quarter of ``timeout`` later.
    """

    def __init__(self, slots: Slots, timeout: float, dead: Callable[[], None]) -> None:
        self.beats = 0
        self._heard = 0
        self._silent = 0
        self._slots = slots
        self._timeout = timeout
        self._dead = dead
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(timeout / TICKS, self._look)

    def stop(self) -> None:
        """Never call back again."""
        self._timer.cancel()

    def _look(self) -> None:
        if self._slots and self._heard == self.beats:
            self._silent += 1
        else:
            self._silent = 0
        if self._silent * (self._timeout / TICKS) > self._timeout + _patience(self._slots):
            self._dead()
            return
        self._heard = self.beats
        self._timer = self._loop.call_later(self._timeout / TICKS, self._look)


def _patience(slots: Slots) -> float:
    head = slots[0] if slots else None
    return head.within if isinstance(head, Batch | Patient) else 0.0
