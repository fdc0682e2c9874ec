"""
What a member of a queue has in its hands: logs it reads, and pages of entries it received and has not settled.

Plain bookkeeping, no connection. The renewal thread reads ``Hold.open`` while the event loop changes it; copying a set
of bytes is one step of the interpreter, so neither needs a lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import cast

from mainstem.engine import Delivery, Part, StreamSpec
from mainstem.engines.redis.layout import deliveries_of, delivery_of, group_key, log_key
from mainstem.engines.redis.replies import items
from mainstem.engines.redis.wire import Reply

_ORIGIN = 4  # fields behind the original ones in a restored letter: cause and origin
_ENTRY = 300  # bytes that an entry takes besides its data


class Source:
    """One log that a group reads: a stream's own, or what was restored from the group's dead letters."""

    __slots__ = ("accounted", "again", "behind", "cursor", "group", "log", "part", "restored", "seeks", "spec")

    def __init__(self, spec: StreamSpec, group: str, *, restored: bool = False) -> None:
        self.spec = spec
        self.part: Part = (spec.name, 0)
        self.restored = restored
        self.again = group_key(spec, 0, group, "again")
        self.log = self.again if restored else log_key(spec, 0)
        self.group = group_key(spec, 0, group)
        self.cursor = b"-"  # where the search for abandoned entries goes on
        self.accounted = 0.0  # monotonic seconds of the last look for gaps
        self.behind = True  # whether the last read left something unread
        self.seeks = -1  # how often the group was moved, as last seen


class Hold:
    """Entries received in one go; ``open`` are those not settled yet."""

    __slots__ = ("each", "entry", "open", "renewed", "source")

    def __init__(self, source: Source, ids: set[bytes], size: int, renewed: float) -> None:
        self.source = source
        self.open = ids
        self.each = size // max(1, len(ids))  # bytes an entry, on average
        self.renewed = renewed  # monotonic seconds: the lease is certainly valid for its length from here
        self.entry: bytes | None = None  # the entry's id where it is not the delivery's position

    def entry_of(self, delivery: Delivery) -> bytes:
        """The id under which the server knows it."""
        return self.entry or delivery.position.encode()


Entry = tuple[bytes, Sequence[bytes]]


@dataclass(slots=True, eq=False)
class Page:
    """Entries received and not handed out; ``at`` is the next one, ``deliveries`` missing: the first for all."""

    hold: Hold
    entries: list[Entry]
    deliveries: list[int] | None = None
    at: int = 0

    def take(self, count: int) -> list[Delivery]:
        """The next ones, at most ``count``; what was lost meanwhile is left out."""
        hold, part = self.hold, self.hold.source.part
        first, self.at = self.at, min(len(self.entries), self.at + count)
        entries = self.entries[first : self.at]
        if len(hold.open) < len(self.entries) - first:
            entries = [entry for entry in entries if entry[0] in hold.open]
        if self.deliveries is None and not hold.source.restored:
            return deliveries_of(part, entries, 1, repeat(hold))
        counts = self.deliveries or [1] * len(self.entries)
        known = {entry[0]: count for entry, count in zip(self.entries, counts, strict=True)}
        return [_delivery(hold, entry, known[entry[0]]) for entry in entries]

    @property
    def left(self) -> int:
        """How many were not handed out."""
        return len(self.entries) - self.at


def pages_of(source: Source, found: Reply, sent: float, deliveries: list[int] | None = None) -> tuple[list[Page], int]:
    """Pages of entries as XREADGROUP and XCLAIM answer them, and their size in bytes."""
    entries = cast("list[Entry]", items(found))
    if not entries:
        return [], 0
    each = _weight(entries) // len(entries)
    size = each * len(entries)  # what its holds let go of in the end, to the byte: a remainder would add up for ever
    if not source.restored:
        return [Page(Hold(source, {entry[0] for entry in entries}, size, sent), entries, deliveries)], size
    pages: list[Page] = []
    for at, entry in enumerate(entries):  # each has a hold of its own, which keeps its id
        hold = Hold(source, {entry[0]}, each, sent)
        hold.entry = entry[0]
        pages.append(Page(hold, [entry], None if deliveries is None else [deliveries[at]]))
    return pages, size


def _delivery(hold: Hold, entry: Entry, deliveries: int) -> Delivery:
    if not hold.source.restored:
        return delivery_of(hold.source.part, entry[0], entry[1], deliveries, hold)
    fields = entry[1]
    origin = fields[-1] if len(fields) > _ORIGIN and fields[-2] == b"origin" else entry[0]
    return delivery_of(hold.source.part, origin, fields[:-_ORIGIN], deliveries, hold)


def _weight(entries: Sequence[Entry]) -> int:
    try:
        return sum([len(entry[1][11]) + len(entry[1][13]) for entry in entries]) + _ENTRY * len(entries)
    except IndexError:
        return sum(sum(map(len, entry[1])) + _ENTRY for entry in entries)
