"""
How much to have in hand: a window that follows the worker's own pace.

A fast worker reads far ahead, a slow one leaves events to others. Pure: the clock is passed in.
"""

from __future__ import annotations

AHEAD = 0.2  # seconds of work to have in hand
LARGEST = 400  # events in hand; the engine holds as many again
READ = 200  # events a read: larger reads cost more (cyclic garbage collection), see the bench


class Flow:
    """Decides the window from what was finished."""

    def __init__(self, concurrency: int) -> None:
        self._floor = 2 * concurrency  # a slow worker must not hold what others could handle
        self._rate = 0.0
        self._finished = 0
        self._since = 0.0
        self.window = self._floor

    def finished(self, now: float, total: int) -> None:
        """Learn the pace: `total` events were finished so far."""
        elapsed = now - self._since
        if elapsed < 0.02:
            return
        rate = (total - self._finished) / elapsed
        self._rate = rate if rate > self._rate else 0.7 * self._rate + 0.3 * rate
        self._since, self._finished = now, total
        self.window = int(min(max(self._floor, self._rate * AHEAD), max(LARGEST, self._floor)))
