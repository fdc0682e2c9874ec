"""The entries of one partition, in order. No group and no policy: those are in desk.py and store.py."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass

from mainstem.engine import Part, Record


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored record. Ordinals of a partition have no holes and start at 1."""

    ordinal: int
    record: Record
    ms: int


class Log:
    """Entries `first` to `last`; older ones were trimmed."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.first = 1
        self.last = 0
        self.bytes = 0
        self._entries: dict[int, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, ordinal: int) -> Entry:
        return self._entries[ordinal]

    def append(self, record: Record, ms: int) -> Entry:
        """Store the record; its time never runs backwards, so that times can be searched."""
        if self._entries:
            ms = max(ms, self._entries[self.last].ms)
        self.last += 1
        entry = self._entries[self.last] = Entry(self.last, record, ms)
        self.bytes += size_of(record)
        return entry

    def after(self, ordinal: int, limit: int) -> Iterator[Entry]:
        """The entries behind the ordinal that are still there."""
        start = max(ordinal + 1, self.first)
        for at in range(start, min(self.last + 1, start + limit)):
            yield self._entries[at]

    def before(self, ms: int) -> int:
        """The ordinal of the last entry older than the time; reading after it starts at the time."""
        kept = range(self.first, self.last + 1)
        return self.first - 1 + bisect.bisect_left(kept, ms, key=lambda at: self._entries[at].ms)

    def trim(self, first: int) -> None:
        """Drop every entry below `first`."""
        for at in range(self.first, min(first, self.last + 1)):
            self.bytes -= size_of(self._entries.pop(at).record)
        self.first = max(self.first, min(first, self.last + 1))


def size_of(record: Record) -> int:
    """Bytes of the fields of a record."""
    r = record
    known = len(r.id) + len(r.type) + len(r.source) + len(r.time) + len(r.key) + len(r.data) + len(r.meta)
    return known + sum(map(len, r.extra))
