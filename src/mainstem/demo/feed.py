"""
Publishing the demo's feed at a pace. What was published is told to the ledger by id, before it is sent.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from mainstem.demo.ledger import Ledger, digest
from mainstem.demo.pipeline import Bar, Job, Streams
from mainstem.demo.replay import Moment
from mainstem.errors import MainstemError, OutcomeUnknown
from mainstem.event import StreamEvent
from mainstem.stream import EventStream

SLICE = 500  # events that leave together at most
TURN = 0.002  # seconds between two looks at the clock
BACKLOG = 20_000  # events under way: beyond, the feed waits for the workers
LATE = 0.5  # seconds of events that are caught up after a pause; what is beyond is not


class Feed:
    """Publishes moments at `rate` events a second, as far as server and workers keep up."""

    def __init__(self, streams: Streams, moments: Iterator[Moment], job: Job, ledger: Ledger, rate: float) -> None:
        self.published = 0
        self.synthetic = 0
        self.seconds = 0.0
        self.recent: deque[Moment] = deque(maxlen=2 * SLICE)  # for whoever shows them
        self._streams = streams
        self._moments = moments
        self._job = job
        self._ledger = ledger
        self._rate = rate

    async def run(self, stop: asyncio.Event, seconds: float | None) -> None:
        """Publish until `stop`, or for so many seconds. Raises what makes publishing impossible."""
        begun = origin = time.monotonic()
        sent = 0
        while not stop.is_set() and (seconds is None or time.monotonic() - begun < seconds):
            now = time.monotonic()
            self.seconds = now - begun
            late = now - origin - sent / self._rate
            if late > LATE:
                origin += late - LATE
            due = min(int((now - origin) * self._rate) - sent, SLICE)
            room = self._ledger.under_way < BACKLOG
            if due > 0 and room:
                sent += await self._publish([next(self._moments) for _ in range(due)])
            await asyncio.sleep(0 if due == SLICE and room else TURN)
        self.seconds = time.monotonic() - begun

    async def _publish(self, moments: Sequence[Moment]) -> int:
        self.recent.extend(moments)
        sent_ns = time.monotonic_ns()
        bars = [self._event(moment, sent_ns) for moment in moments if isinstance(moment.data, Bar)]
        ticks = [self._event(moment, sent_ns) for moment in moments if not isinstance(moment.data, Bar)]
        await asyncio.gather(self._send(self._streams.ticks, ticks), self._send(self._streams.bars, bars))
        return len(moments)

    def _event(self, moment: Moment, sent_ns: int) -> StreamEvent[Any]:
        metadata = self._job.metadata(synthetic=moment.synthetic, sent_ns=sent_ns)
        return StreamEvent(data=moment.data, time=moment.time, metadata=metadata)

    async def _send(self, stream: EventStream[Any], events: Sequence[StreamEvent[Any]]) -> None:
        """Send; the ledger learns of the ids first, since a handler may be faster than the server's answer to us."""
        identities = [digest(event.id) for event in events]
        for identity in identities:
            self._ledger.publish(identity)
        outcomes = await stream.try_publish_batch(events)
        failure: MainstemError | None = None
        for event, identity, outcome in zip(events, identities, outcomes, strict=True):
            if isinstance(outcome, str | OutcomeUnknown):
                self._stored(event, identity, outcome)
                continue
            self._ledger.take_back(identity)
            failure = outcome
        if failure is not None:
            raise failure

    def _stored(self, event: StreamEvent[Any], identity: int, outcome: str | OutcomeUnknown) -> None:
        self.published += 1
        self.synthetic += isinstance(outcome, str) and bool(event.metadata.extensions["synthetic"])
        if not isinstance(outcome, str):
            self._ledger.doubt(identity)
