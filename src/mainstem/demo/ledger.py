"""
The demo's check on itself: which events were published, which were handled, and how long it took. Pure; no I/O.

Identity, not counting: each id published must be handled by the group, and once. What is settled is forgotten, so the
memory it takes is that of the events under way.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

import msgspec

REMEMBERED = 100_000
"""Ids published that are recognised when they come again; a repeat follows within a lease."""


def digest(event_id: str) -> int:
    """64 bits that stand for an id."""
    return int.from_bytes(blake2b(event_id.encode(), digest_size=8).digest(), "big")


class Latencies:
    """A histogram of microseconds: 32 steps per doubling, so within 3 % of the truth, in a few kilobytes."""

    STEPS = 32

    def __init__(self) -> None:
        self.counts = [0] * (self.STEPS * 28)
        self.count = 0

    def add(self, us: int) -> None:
        self.counts[min(_bucket(us), len(self.counts) - 1)] += 1
        self.count += 1

    def quantile_ms(self, share: float) -> float:
        """The latency that this share of events did not exceed, in milliseconds; 0 where there was none."""
        wanted, seen = self.count * share, 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return _middle(bucket) / 1000
        return 0.0

    def merged(self, other: Latencies) -> Latencies:
        """Both in one."""
        return self._combined(other, 1)

    def since(self, earlier: Latencies) -> Latencies:
        """What was added after the copy `earlier` was made."""
        return self._combined(earlier, -1)

    def copy(self) -> Latencies:
        return self._combined(Latencies(), 1)

    def _combined(self, other: Latencies, sign: int) -> Latencies:
        result = Latencies()
        result.counts = [mine + sign * theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        result.count = self.count + sign * other.count
        return result


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one group's events."""

    published: int
    handled: int  # ids, each counted once
    lost: int  # ids published and never handled
    unknown: int  # ids whose publishing was cut off and which nobody handled: not stored, or lost; not in `published`
    duplicated: int  # handlings beyond the first of an id
    p50_ms: float
    p99_ms: float


class Ledger:
    """One group's book. Reports may come in any order: an event is often handled before its publisher knows of it."""

    def __init__(self) -> None:
        self.latencies = Latencies()
        self.published = 0
        self.under_way = 0  # ids published and not handled so far
        self._open: dict[int, int] = {}  # id -> published less handled, where that is not 0
        self._unsure: set[int] = set()
        self._recent: OrderedDict[int, None] = OrderedDict()

    def publish(self, identity: int) -> None:
        """This id was stored, or is about to be; one that is stored twice, as a repeat after a crash, counts once."""
        if identity in self._recent:
            return
        self._recent[identity] = None
        if len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
        self.published += 1
        self._move(identity, 1)

    def take_back(self, identity: int) -> None:
        """It was certainly not stored."""
        self._recent.pop(identity, None)
        self.published -= 1
        self._move(identity, -1)

    def doubt(self, identity: int) -> None:
        """It may be stored or not: it is not lost if nobody handles it."""
        self._unsure.add(identity)

    def handle(self, identity: int, us: int) -> None:
        """A handler succeeded with this id, which reached it `us` microseconds after it was published."""
        self._move(identity, -1)
        self._unsure.discard(identity)
        self.latencies.add(us)

    def verdict(self) -> Verdict:
        """The account so far; final once nothing is under way."""
        missing = {identity for identity, balance in self._open.items() if balance > 0}
        lost = missing - self._unsure
        unknown = len(missing) - len(lost)
        stored = self.published - unknown
        return Verdict(
            published=stored,
            handled=stored - len(lost),
            lost=len(lost),
            unknown=unknown,
            duplicated=-sum(balance for balance in self._open.values() if balance < 0),
            p50_ms=round(self.latencies.quantile_ms(0.50), 3),
            p99_ms=round(self.latencies.quantile_ms(0.99), 3),
        )

    def _move(self, identity: int, by: int) -> None:
        before = self._open.get(identity, 0)
        balance = before + by
        self.under_way += (balance > 0) - (before > 0)
        if balance:
            self._open[identity] = balance
        else:
            self._open.pop(identity, None)


def _bucket(us: int) -> int:
    """Exact below 32, then 32 equal steps from each power of two to the next."""
    if us < Latencies.STEPS:
        return max(us, 0)
    shift = us.bit_length() - 6
    return Latencies.STEPS * (shift + 1) + (us >> shift) - Latencies.STEPS


def _middle(bucket: int) -> float:
    if bucket < Latencies.STEPS:
        return float(bucket)
    shift = bucket // Latencies.STEPS - 1
    return ((bucket % Latencies.STEPS) + Latencies.STEPS + 0.5) * (1 << shift)
