"""
From deliveries to jobs, and from failures to what follows: what both kinds of worker share.

An event that cannot be decoded, or whose workers ended too often, goes to the dead letters without being run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import msgspec

from mainstem.causes import cause_of
from mainstem.codec import event_id
from mainstem.engine import Back, Dead, Delivery
from mainstem.errors import DecodeError
from mainstem.hooks import DeadLetterDetail, HandleDetail, Hooks
from mainstem.processing.lanes import Job
from mainstem.processing.retry import GiveUp, jitter, next_step
from mainstem.processing.session import Session
from mainstem.processing.settling import Settler

_log = logging.getLogger("mainstem")

REPORT = 0.5  # seconds between reports of what was handled


class Tally:
    """Attempts since the last report, and the seconds spent in them."""

    __slots__ = ("failed", "handled", "seconds")

    def __init__(self) -> None:
        self.handled = 0
        self.failed = 0
        self.seconds = 0.0


class Intake:
    """Makes jobs, gives events up, keeps count."""

    def __init__(self, session: Session, settler: Settler, hooks: Hooks) -> None:
        self._session = session
        self._sub = session.subscription
        self._settler = settler
        self._hooks = hooks
        self._tallies: dict[str, Tally] = {}

    def jobs(self, deliveries: list[Delivery]) -> list[Job]:
        """Decode; what must not be run is given up instead."""
        envelopes = self._session.envelopes
        limit = self._sub.retry.attempts
        jobs: list[Job] = []
        for delivery in deliveries:
            attempt = delivery.deliveries or 1
            if attempt > limit:
                self._give_up(delivery, None, f"its worker ended {attempt - 1} times without settling it", attempt - 1)
                continue
            envelope = envelopes[delivery.part[0]]
            try:
                event = envelope.unpack(delivery, attempt)
            except DecodeError as error:
                self._give_up(delivery, error, str(error), 0)
                continue
            lane = (delivery.part, delivery.record.key) if envelope.spec.partitions else None
            jobs.append(Job(delivery, event, lane))
        return jobs

    def after_failure(self, job: Job, error: BaseException) -> float | None:
        """Seconds until the next attempt; None if the event was given up."""
        attempt = (job.delivery.deliveries or 1) + job.failures
        step = next_step(attempt, error, self._sub.retry, jitter())
        if isinstance(step, GiveUp):
            self._give_up(job.delivery, error, step.reason, attempt)
            return None
        _log.warning(
            "%s failed on %s at %s (attempt %d of %d), again in %.2f s: %r",
            self._sub.name, job.delivery.part[0], job.event.position, attempt, self._sub.retry.attempts,
            step.seconds, error,
        )  # fmt: skip
        job.failures += 1
        job.event = msgspec.structs.replace(job.event, attempt=attempt + 1)
        return step.seconds

    def give_back(self, jobs: Iterable[Job]) -> None:
        """Attempts that failed here must count wherever the event goes next; the rest is released by leaving."""
        for job in jobs:
            if job.failures:
                self._settler.add(Back(job.delivery, 0.0, job.failures))

    def tally(self, stream: str) -> Tally:
        """What is counted for a stream until the next report."""
        tally = self._tallies.get(stream)
        if tally is None:
            tally = self._tallies[stream] = Tally()
        return tally

    def note(self, stream: str, handled: int, failed: int, seconds: float) -> None:
        """Count attempts; told to hooks and engine by `report`."""
        tally = self.tally(stream)
        tally.handled += handled
        tally.failed += failed
        tally.seconds += seconds

    async def report(self) -> None:
        """Until cancelled: tell hooks and engine what was handled."""
        while True:
            await asyncio.sleep(REPORT)
            self.tell()

    def tell(self) -> None:
        """Report what was handled since the last time."""
        tallies, self._tallies = self._tallies, {}
        for stream, tally in tallies.items():
            self._session.count(stream, tally.handled, tally.failed)
            self._hooks.handled(
                HandleDetail(stream, self._sub.group, self._sub.name, tally.handled, tally.failed, tally.seconds)
            )

    def _give_up(self, delivery: Delivery, error: BaseException | None, reason: str, attempts: int) -> None:
        sub = self._sub
        stream = delivery.part[0]
        position = self._session.envelopes[stream].position_of(delivery)
        cause = cause_of(
            delivery, error, position=position, reason=reason, attempts=attempts, group=sub.group, handler=sub.name
        )
        self._settler.add(Dead(delivery, cause))
        _log.error(
            "%s gave up the event at %s of %s after %d attempts: %s (look: mainstem dead ls %s --group %s)",
            sub.name, position, stream, attempts, reason, stream, sub.group,
        )  # fmt: skip
        self._hooks.dead(
            DeadLetterDetail(stream, sub.group, sub.name, event_id(delivery.record), position, reason, attempts)
        )
