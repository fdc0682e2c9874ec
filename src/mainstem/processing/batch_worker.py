"""
Runs one subscription's batch handler: gather, run, settle each event by its own outcome.

A batch that fails as a whole is tried again an event at a time, so that one bad event is found and the others are not
given up with it. Redelivered events (a worker may have ended on them) run alone too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from mainstem.engine import Done, Lost, Part, Revoking
from mainstem.hooks import Hooks
from mainstem.processing.handling import Calls
from mainstem.processing.intake import Intake
from mainstem.processing.lanes import Job, LaneKey
from mainstem.processing.outcomes import BatchFailed, Skip
from mainstem.processing.session import Session
from mainstem.processing.settling import Settler
from mainstem.processing.subscription import Batching
from mainstem.processing.tasks import cancel_all, cancelled_from_outside, until_stop_or_failure, wait_until

_log = logging.getLogger("mainstem")

WAIT = 1.0  # seconds a read waits in the engine
GATHER = 0.004  # seconds between reads while a batch fills


class BatchWorker:
    """One member of a group that calls one handler with sequences of events, one batch at a time."""

    def __init__(self, session: Session, calls: Calls, hooks: Hooks, batching: Batching) -> None:
        self._session = session
        self._sub = session.subscription
        self._batching = batching
        self._calls = calls
        self._settler = Settler(session)
        self._intake = Intake(session, self._settler, hooks)
        self._gathered: list[Job] = []
        self._current: list[Job] = []
        self._revoked: list[Revoking] = []
        self._stopping = False
        session.on_revoking = self._revoking
        session.on_lost = self._lost

    async def run(self, stop: asyncio.Event, drain: float) -> int:
        """Work until `stop`, then finish the batch that runs within `drain` seconds; returns how many were released."""
        await self._session.open()
        named = f"mainstem-{self._sub.name}"
        loop = asyncio.create_task(self._loop(), name=named)
        others = [self._settler.run(), self._session.tend(), self._intake.report()]
        tasks = [asyncio.create_task(other, name=named) for other in others]
        try:
            await until_stop_or_failure(stop, [loop, *tasks])
            return await self._drain(loop, drain)
        finally:
            self._calls.close()  # first: a thread that hangs is not waited for
            await cancel_all([loop, *tasks])
            await self._session.leave(timeout=max(drain, 1.0))

    async def _loop(self) -> None:
        size = self._batching.size
        while not self._stopping:
            await self._gather()
            self._current, self._gathered = self._gathered[:size], self._gathered[size:]
            await self._handle(self._current)
            self._current = []
            await self._hand_over()

    async def _gather(self) -> None:
        """Receive until a batch is full, or `max_wait` after its first event."""
        size, max_wait = self._batching.size, self._batching.max_wait
        until = time.monotonic() + max_wait if self._gathered else None
        while len(self._gathered) < size:
            left = WAIT if until is None else until - time.monotonic()
            if left <= 0.0:
                return
            self._settler.kick()
            await asyncio.sleep(0)  # the acks leave in the same write as the read, before it
            received = await self._session.receive(size, min(left, WAIT))
            self._gathered += self._intake.jobs(received)
            await self._hand_over()
            if until is None and self._gathered:
                until = time.monotonic() + max_wait
            if until is not None and len(received) * 4 < size:
                await asyncio.sleep(min(GATHER, max(until - time.monotonic(), 0.0)))

    # Handling

    async def _handle(self, batch: list[Job]) -> None:
        fresh: list[Job] = []
        for job in batch:
            if job.dropped:
                continue
            if job.event.attempt == 1:
                fresh.append(job)
            else:
                await self._alone(job)
        fresh = [job for job in fresh if not job.dropped]
        if fresh:
            await self._together(fresh)

    async def _together(self, jobs: list[Job]) -> None:
        error = await self._call(jobs)
        if error is None:
            self._done(jobs)
            return
        failures = error.failures if isinstance(error, BatchFailed) else {}
        strange = failures.keys() - {job.event.position for job in jobs}
        if strange or not failures:
            if len(jobs) > 1:  # whose failure it was is not known: it is no attempt of any of them
                _log.warning("%s failed on a batch of %d, each is tried alone: %r", self._sub.name, len(jobs), error)
                for job in jobs:
                    await self._alone(job)
                return
            failures = {jobs[0].event.position: error}
        again = _failed_and_behind(jobs, failures)
        behind = set(again)
        self._done([job for job in jobs if job not in behind])
        for job in again:
            own = failures.get(job.event.position)
            if own is None or await self._pause(job, own):
                await self._alone(job)

    async def _alone(self, job: Job) -> None:
        """Run the handler on one event until it succeeds or is given up."""
        while not job.dropped:
            error = await self._call([job])
            if error is None:
                self._done([job])
                return
            if isinstance(error, BatchFailed):
                error = error.failures.get(job.event.position, error)
            if not await self._pause(job, error):
                return

    async def _call(self, jobs: list[Job]) -> BaseException | None:
        """Run the handler once; returns what it raised."""
        stream = jobs[0].delivery.part[0]
        begun = time.perf_counter()
        try:
            await self._calls.call([job.event for job in jobs], lambda: all(job.dropped for job in jobs))
        except Skip:
            pass
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # a handler is a stranger's code
            if cancelled_from_outside(error):
                raise
            failed = len(error.failures) if isinstance(error, BatchFailed) else len(jobs)
            self._intake.note(stream, max(len(jobs) - failed, 0), failed, time.perf_counter() - begun)
            return error
        self._intake.note(stream, len(jobs), 0, time.perf_counter() - begun)
        return None

    async def _pause(self, job: Job, error: BaseException) -> bool:
        """Wait before another attempt; false if the event was given up instead."""
        if job.dropped:
            return False
        pause = self._intake.after_failure(job, error)
        if pause is None:
            job.dropped = True  # nothing more is to be done about it here
            return False
        if self._stopping:
            self._release(job)
            return False
        self._settler.kick()
        await asyncio.sleep(pause)
        return True

    def _release(self, job: Job) -> None:
        """Give it back, and with it what is behind it of its key: that must not be handled before it."""
        lane = job.lane
        mates = [] if lane is None else [other for other in self._current if other.lane == lane and not other.dropped]
        released = mates or [job]
        self._intake.give_back(released)
        for each in released:
            each.dropped = True

    def _done(self, jobs: list[Job]) -> None:
        self._settler.add_all([Done(job.delivery) for job in jobs if not job.dropped])
        for job in jobs:
            job.dropped = True  # nothing more is to be done about it here

    # Losing partitions and leases

    def _revoking(self, signal: Revoking) -> None:
        self._revoked.append(signal)

    def _lost(self, lost: Lost) -> None:
        self._drop(lost.part, frozenset(lost.positions))

    async def _hand_over(self) -> None:
        """Between batches nothing of a revoked part runs: give it away."""
        while self._revoked:
            signal = self._revoked.pop()
            self._drop(signal.part, frozenset())
            await self._settler.flush()
            await self._session.yield_part(signal.part)

    def _drop(self, part: Part, positions: frozenset[str]) -> None:
        for job in [*self._gathered, *self._current]:
            if job.delivery.part == part and (not positions or job.delivery.position in positions):
                job.dropped = True
        self._gathered = [job for job in self._gathered if not job.dropped]

    # Ending

    async def _drain(self, loop: asyncio.Task[None], seconds: float) -> int:
        self._stopping = True
        until = time.monotonic() + seconds
        await wait_until(lambda: not self._current, until)
        loop.cancel()
        released = [job for job in [*self._gathered, *self._current] if not job.dropped]
        self._intake.give_back(released)
        await self._settler.flush(max(until - time.monotonic(), 1.0))
        self._intake.tell()
        return len(released)


def _failed_and_behind(jobs: list[Job], failures: Mapping[str, BaseException]) -> list[Job]:
    """Those that failed, and on a keyed stream those behind them of the same key: they must not be settled before."""
    again: list[Job] = []
    held: set[LaneKey] = set()
    for job in jobs:
        if job.event.position in failures or (job.lane is not None and job.lane in held):
            again.append(job)
            if job.lane is not None:
                held.add(job.lane)
    return again
