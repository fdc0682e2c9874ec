"""
Settling in the background: what handlers finished leaves in few, large calls, and never waits long.

A call leaves when nothing more is about to finish, when enough has gathered, before the next read (so that both leave
in one write), or after `LINGER`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from mainstem.engine import Settled
from mainstem.processing.session import Session

_log = logging.getLogger("mainstem")

LINGER = 0.05  # seconds that a finished event waits at most for others
ENOUGH = 256


class Settler:
    """Collects settled items and sends them, one call at a time, in order."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._items: list[Settled] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: Settled) -> None:
        """Take an item; it leaves by itself within `LINGER`."""
        items = self._items
        items.append(item)
        if len(items) == 1:
            self._idle.clear()
            self._timer = asyncio.get_running_loop().call_later(LINGER, self._wake.set)
        elif len(items) >= ENOUGH:
            self._wake.set()

    def add_all(self, items: Sequence[Settled]) -> None:
        """Take items that leave with the next call, and cause it."""
        if items:
            self._items += items
            self._idle.clear()
            self._wake.set()

    def kick(self) -> None:
        """Send what there is now."""
        if self._items:
            self._wake.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._timer is not None:
                self._timer.cancel()
            items, self._items = self._items, []
            if items:
                fenced = await self._session.settle(items)
                if fenced:
                    _log.warning("%d results were refused: another member owns those events now", len(fenced))
            if self._items:
                self._rearm()
            else:
                self._idle.set()

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until everything added is settled; after `timeout` seconds go on: what is left will come again."""
        self.kick()
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            _log.warning("%d events could not be settled in time: they will be delivered again", len(self._items))

    def _rearm(self) -> None:
        """Items that came during a call have waited already."""
        if len(self._items) >= ENOUGH:
            self._wake.set()
        else:
            self._timer = asyncio.get_running_loop().call_later(LINGER, self._wake.set)
