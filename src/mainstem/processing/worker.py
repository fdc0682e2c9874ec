"""Runs one subscription's handler, an event at a time: read ahead, run in lanes, retry, settle, drain."""

from __future__ import annotations

import asyncio
import logging
import time
from time import perf_counter
from typing import Any

from mainstem.engine import Back, Done, Lost, Part, Revoking
from mainstem.errors import OutcomeUnknown, Unavailable
from mainstem.hooks import Hooks
from mainstem.processing.flow import READ, Flow
from mainstem.processing.handling import Calls
from mainstem.processing.intake import Intake
from mainstem.processing.lanes import Job, Lanes
from mainstem.processing.outcomes import Skip
from mainstem.processing.outputs import output_of
from mainstem.processing.session import Session
from mainstem.processing.settling import Settler
from mainstem.processing.tasks import cancel_all, cancelled_from_outside, until_stop_or_failure, wait_until

_log = logging.getLogger("mainstem")

BREATH = 64  # events that one runner handles before it lets others run
HELD = 5.0  # seconds: an event of a queue that is to wait longer goes back to the engine and leaves room for others
WAIT = 1.0  # seconds a read waits in the engine


class Worker:
    """One member of a group that calls one handler with single events."""

    def __init__(self, session: Session, calls: Calls, hooks: Hooks) -> None:
        self._session = session
        self._sub = session.subscription
        self._calls = calls
        self._direct = calls.direct
        self._lanes = Lanes()
        self._flow = Flow(self._sub.concurrency)
        self._settler = Settler(session)
        self._intake = Intake(session, self._settler, hooks)
        self._running: dict[asyncio.Task[None], Job] = {}
        self._asleep: dict[Job, asyncio.TimerHandle] = {}
        self._handing_over: set[asyncio.Task[None]] = set()
        self._idle: list[asyncio.Future[None]] = []
        self._room = asyncio.Event()
        self._wants_room = False
        self._in_hand = 0
        self._finished = 0
        self._ending = False
        session.on_revoking = self._revoking
        session.on_lost = self._lost

    async def run(self, stop: asyncio.Event, drain: float) -> int:
        """Work until `stop`, then finish what runs within `drain` seconds; returns how many events were released."""
        await self._session.open()
        named = f"mainstem-{self._sub.name}"
        reader = asyncio.create_task(self._read(), name=f"{named}-read")
        others = [self._settler.run(), self._session.tend(), self._intake.report()]
        tasks = [asyncio.create_task(other, name=named) for other in others]
        tasks += [asyncio.create_task(self._run_jobs(), name=f"{named}-{n}") for n in range(self._sub.concurrency)]
        try:
            await until_stop_or_failure(stop, [reader, *tasks])
            reader.cancel()
            return await self._drain(drain)
        finally:
            self._ending = True
            self._calls.close()  # first: a thread that hangs is not waited for
            await cancel_all([reader, *tasks, *self._handing_over])
            await self._session.leave(timeout=max(drain, 1.0))

    # Reading

    async def _read(self) -> None:
        flow = self._flow
        while True:
            flow.finished(time.monotonic(), self._finished)
            room = flow.window - self._in_hand
            if room * 2 <= flow.window:
                self._room.clear()
                self._wants_room = True
                await self._room.wait()
                continue
            self._settler.kick()
            await asyncio.sleep(0)  # the acks leave in the same write as the read, before it
            deliveries = await self._session.receive(min(room, READ), WAIT)
            jobs = self._intake.jobs(deliveries)
            self._in_hand += len(jobs)
            for job in jobs:
                self._lanes.add(job)
            self._wake_runners(len(jobs))

    # Running

    async def _run_jobs(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        lanes, running, breath = self._lanes, self._running, BREATH
        while True:
            if not lanes.ready:
                self._settler.kick()
                await self._work_to_do()
                continue
            job = lanes.ready.popleft()
            running[task] = job
            try:
                await self._attempt(job)
            except asyncio.CancelledError:
                if self._ending or not job.dropped:
                    raise
            finally:
                del running[task]
                while job.dropped and not self._ending and task.cancelling():
                    task.uncancel()  # also where the handler swallowed the cancellation
            breath -= 1
            if not breath:
                breath = BREATH
                await asyncio.sleep(0)

    async def _attempt(self, job: Job) -> None:
        direct, event = self._direct, job.event
        begun = perf_counter()
        try:
            result = await (direct(event) if direct is not None else self._calls.call(event, lambda: job.dropped))
        except Skip:
            result = None
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # a handler is a stranger's code
            if cancelled_from_outside(error):
                raise
            self._intake.note(event.stream, 0, 1, perf_counter() - begun)
            self._failed(job, error)
            return
        tally = self._intake.tally(event.stream)
        tally.handled += 1
        tally.seconds += perf_counter() - begun
        if result is not None and self._sub.to is not None and not await self._emit(job, result):
            return
        if not job.dropped:
            self._settler.add(Done(job.delivery))
            self._finish(job)

    async def _emit(self, job: Job, result: Any) -> bool:
        """Publish the handler's result before the input is acknowledged; waits for a server that is away."""
        assert self._sub.to is not None
        while not job.dropped:
            try:
                await self._sub.to.publish(output_of(job.event, result, self._sub.group, self._sub.name))
                return True
            except (Unavailable, OutcomeUnknown) as error:  # same id: a reader can recognise a repeat
                _log.warning("%s cannot publish its result yet: %s", self._sub.name, error)
                await asyncio.sleep(0.2)
            except Exception as error:  # noqa: BLE001 - the result is a stranger's data
                self._failed(job, error)
                return False
        return False

    def _failed(self, job: Job, error: BaseException) -> None:
        if job.dropped:
            return
        pause = self._intake.after_failure(job, error)
        if pause is None:
            self._finish(job)
        elif pause > HELD and job.lane is None:
            self._settler.add(Back(job.delivery, pause, job.failures))
            self._finish(job)
        else:
            self._asleep[job] = asyncio.get_running_loop().call_later(pause, self._awake, job)

    def _awake(self, job: Job) -> None:
        self._asleep.pop(job, None)
        if not job.dropped:
            self._lanes.again(job)
            self._wake_runners(1)

    def _finish(self, job: Job) -> None:
        self._in_hand -= 1
        self._finished += 1
        if job.lane is not None:
            self._lanes.finish(job)
        if self._wants_room and self._in_hand * 2 < self._flow.window:
            self._make_room()

    def _make_room(self) -> None:
        if self._in_hand * 2 < self._flow.window:
            self._wants_room = False
            self._room.set()

    # Losing partitions and leases

    def _lost(self, lost: Lost) -> None:
        self._drop(lost.part, frozenset(lost.positions), running=True)

    def _revoking(self, signal: Revoking) -> None:
        self._intake.give_back(self._drop(signal.part, frozenset(), running=False))
        task = asyncio.create_task(self._hand_over(signal), name=f"mainstem-{self._sub.name}-hand-over")
        self._handing_over.add(task)
        task.add_done_callback(self._handing_over.discard)

    async def _hand_over(self, signal: Revoking) -> None:
        """Let running handlers of the part finish until the deadline, then give it away."""
        await wait_until(lambda: not self._runs(signal.part), signal.deadline)
        # What runs still, and what failed meanwhile and sleeps: it must not run here after the hand-over.
        self._intake.give_back(self._drop(signal.part, frozenset(), running=True))
        await self._settler.flush()
        await self._session.yield_part(signal.part)

    def _runs(self, part: Part) -> bool:
        return any(job.delivery.part == part for job in self._running.values())

    def _drop(self, part: Part, positions: frozenset[str], *, running: bool) -> list[Job]:
        dropped = self._lanes.drop(part, positions)
        for job in [job for job in self._asleep if _hit(job, part, positions)]:
            self._asleep.pop(job).cancel()
            job.dropped = True
            dropped.append(job)
        if running:
            for task in [task for task, job in self._running.items() if _hit(job, part, positions) and not job.dropped]:
                self._running[task].dropped = True
                dropped.append(self._running[task])
                task.cancel()
        self._in_hand -= len(dropped)
        self._make_room()
        return dropped

    # Ending

    async def _drain(self, seconds: float) -> int:
        """Finish what runs; what has not begun, sleeps, or takes too long is released."""
        released = self._lanes.clear() + self._rouse()
        until = time.monotonic() + seconds
        await wait_until(lambda: not self._running, until)
        released += [*self._running.values(), *self._rouse()]  # what failed meanwhile sleeps by now
        self._intake.give_back(released)
        await self._settler.flush(max(until - time.monotonic(), 1.0))
        self._intake.tell()
        return len(released)

    def _rouse(self) -> list[Job]:
        """Take out what sleeps."""
        asleep, self._asleep = self._asleep, {}
        for timer in asleep.values():
            timer.cancel()
        return list(asleep)

    # Waking

    async def _work_to_do(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle.append(future)
        await future

    def _wake_runners(self, count: int) -> None:
        while count > 0 and self._idle:
            future = self._idle.pop()
            if not future.done():
                future.set_result(None)
                count -= 1


def _hit(job: Job, part: Part, positions: frozenset[str]) -> bool:
    return job.delivery.part == part and (not positions or job.delivery.position in positions)
