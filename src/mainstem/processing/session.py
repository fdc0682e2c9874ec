"""
One subscription's membership in its group: joining, following streams as they appear, receiving, settling.

Hides from the workers what can go wrong between them and the engine: a server that is away is waited for, settling is
repeated until it is answered, signals become calls and hooks.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from mainstem.codec import Envelope
from mainstem.engine import (
    Delivery,
    Engine,
    Gained,
    Gap,
    GroupSpec,
    Incident,
    Lost,
    Member,
    Part,
    Revoking,
    Settled,
    Signal,
)
from mainstem.errors import MainstemError, OutcomeUnknown, Unavailable
from mainstem.hooks import Hooks, IncidentDetail
from mainstem.processing.subscription import Subscription

_log = logging.getLogger("mainstem")

REFRESH = 1.0  # seconds between looks for new streams of a pattern, and between reports of counters
PAUSE_CAP = 2.0


class Session:
    """A member and what it follows. `on_revoking` and `on_lost` are called from `receive`."""

    def __init__(self, subscription: Subscription, engine: Engine, hooks: Hooks) -> None:
        self.subscription = subscription
        self.envelopes: dict[str, Envelope[Any]] = {}
        self.on_revoking: Callable[[Revoking], None] = lambda _: None
        self.on_lost: Callable[[Lost], None] = lambda _: None
        self._engine = engine
        self._hooks = hooks
        self._member: Member | None = None
        self._following: set[str] | None = None
        self._handled: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()

    async def open(self) -> None:
        """Join the group and follow the streams there are."""
        sub = self.subscription
        self._member = await self._engine.join(GroupSpec(name=sub.group, start=sub.start, lease=sub.lease))
        await self._follow()

    async def tend(self) -> None:
        """Until cancelled: follow new streams of a pattern, report counters."""
        while True:
            await asyncio.sleep(REFRESH)
            try:
                await self._report_counts()
                await self._follow()
            except MainstemError as error:
                _log.debug("group %s: %s", self.subscription.group, error)

    async def receive(self, limit: int, wait: float) -> list[Delivery]:
        """The next deliveries; waits for a server that is away. Cancelling it loses nothing."""
        pause = 0.05
        while True:
            try:
                items = await self._joined().receive(limit, wait, frozenset())
                break
            except Unavailable as error:
                self._incident("unavailable", "*", str(error))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, PAUSE_CAP)
        if all(isinstance(item, Delivery) for item in items):
            return items  # type: ignore[return-value]  # checked in the line above
        return [item for item in items if isinstance(item, Delivery) or self._signal(item)]  # type: ignore[misc]

    async def settle(self, items: Sequence[Settled]) -> set[tuple[Part, str]]:
        """Settle, however long the server is away; returns what was refused because another member owns it."""
        pause = 0.05
        while True:
            try:
                fenced = await self._joined().settle(items)
                return {(delivery.part, delivery.position) for delivery in fenced} if fenced else set()
            except (Unavailable, OutcomeUnknown) as error:  # settling twice is harmless
                _log.warning("group %s cannot settle yet: %s", self.subscription.group, error)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, PAUSE_CAP)

    async def yield_part(self, part: Part) -> None:
        """Hand a partition over."""
        try:
            await self._joined().yield_part(part)
        except (Unavailable, OutcomeUnknown) as error:
            _log.warning(
                "group %s: handing over %s failed, its lease will run out: %s", self.subscription.group, part, error
            )

    def count(self, stream: str, handled: int, failed: int) -> None:
        """Add to the counters that `tend` reports."""
        if handled:
            self._handled[stream] += handled
        if failed:
            self._failed[stream] += failed

    async def leave(self, timeout: float) -> None:
        """Release what is unsettled and leave; a server that is away is not waited for longer than `timeout`."""
        if self._member is None:
            return
        try:
            async with asyncio.timeout(timeout):
                await self._report_counts()
                await self._member.leave()
        except (TimeoutError, MainstemError) as error:
            _log.warning(
                "group %s left without saying so (%s): its leases will run out", self.subscription.group, error
            )

    async def _follow(self) -> None:
        found = await self.subscription.source.resolve()
        if self._following != found.keys():
            self.envelopes.update(found)
            await self._joined().follow([envelope.spec for envelope in found.values()])
            self._following = set(found)  # after it: what failed is tried again

    async def _report_counts(self) -> None:
        handled, failed = self._handled, self._failed
        self._handled, self._failed = Counter(), Counter()
        for stream in handled.keys() | failed.keys():
            await self._joined().count(stream, handled[stream], failed[stream])

    def _signal(self, signal: Signal) -> bool:
        """Pass a signal on; always false, so that it filters itself out of the deliveries."""
        group = self.subscription.group
        if isinstance(signal, Revoking):
            self.on_revoking(signal)
        elif isinstance(signal, Lost):
            self._incident("lost", signal.part[0], f"group {group!r} lost {signal.part}: another member took over")
            self.on_lost(signal)
        elif isinstance(signal, Gap):
            text = f"retention took {signal.missing} events of {signal.part[0]!r} before group {group!r} read them"
            _log.error("%s; keep events longer or add workers", text)
            self._incident("gap", signal.part[0], text, signal.missing)
        elif isinstance(signal, Incident):
            _log.error("stream %s, group %s: %s", signal.part[0], group, signal.what)
            self._incident("recreated", signal.part[0], signal.what)
        else:
            assert isinstance(signal, Gained)
        return False

    def _incident(self, kind: str, stream: str, what: str, events: int = 0) -> None:
        self._hooks.incident(IncidentDetail(kind, stream, self.subscription.group, what, events))

    def _joined(self) -> Member:
        assert self._member is not None, "the session is opened before it is used"
        return self._member
