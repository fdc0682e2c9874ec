"""
Who runs next inside one worker. Events of a keyed stream queue in a lane per key, one at a time; others run freely.

Pure bookkeeping: no tasks, no clock.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from mainstem.engine import Delivery, Part
from mainstem.event import Received

LaneKey = tuple[Part, bytes]


class Job(msgspec.Struct, gc=False, eq=False):
    """One received event on its way to being settled."""

    delivery: Delivery
    event: Received[Any]
    lane: LaneKey | None
    failures: int = 0  # attempts that failed in this process
    dropped: bool = False  # lost or revoked: whatever its handler does now counts for nothing


class Lanes:
    """Jobs that may run (`ready`), and behind them those that wait for their key."""

    def __init__(self) -> None:
        self.ready: deque[Job] = deque()
        self._waiting: dict[LaneKey, deque[Job] | None] = {}  # of busy keys; None: nobody waits

    def add(self, job: Job) -> None:
        """Take a new job in; it is ready at once unless its key is busy."""
        lane = job.lane
        if lane is None:
            self.ready.append(job)
            return
        if lane not in self._waiting:
            self._waiting[lane] = None
            self.ready.append(job)
            return
        waiting = self._waiting[lane]
        if waiting is None:
            self._waiting[lane] = deque((job,))
        else:
            waiting.append(job)

    def again(self, job: Job) -> None:
        """Make a job ready that failed and has slept; its lane was held for it."""
        self.ready.append(job)

    def finish(self, job: Job) -> None:
        """The job is settled: the next of its key may run."""
        lane = job.lane
        if lane is None or job.dropped:
            return
        waiting = self._waiting.pop(lane, None)
        if waiting:
            self.ready.append(waiting.popleft())
            self._waiting[lane] = waiting or None

    def drop(self, part: Part, positions: frozenset[str] = frozenset()) -> list[Job]:
        """Forget the jobs of a part that are not running (all, or those at `positions` of a queue); returns them."""

        def gone(job: Job) -> bool:
            return job.delivery.part == part and (not positions or job.delivery.position in positions)

        dropped = [job for job in self.ready if gone(job)]
        self.ready = deque(job for job in self.ready if not gone(job))
        if not positions:
            for lane in [lane for lane in self._waiting if lane[0] == part]:
                dropped += self._waiting.pop(lane) or ()
        for job in dropped:
            job.dropped = True
        return dropped

    def clear(self) -> list[Job]:
        """Forget everything that is not running; returns it."""
        dropped = list(self.ready) + [job for waiting in self._waiting.values() for job in waiting or ()]
        self.ready.clear()
        self._waiting.clear()
        for job in dropped:
            job.dropped = True
        return dropped
