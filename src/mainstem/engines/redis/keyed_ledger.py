"""
Which entries of a log count as read: those delivered, those a former owner settled, those trimming took. No connection.

Entries are counted from the log's creation, as the server does; that makes a loss exact, and survives trimming.
"""

from __future__ import annotations

from mainstem.acks import Run
from mainstem.engines.redis.keyed_codec import LogFacts, before


class Ledger:
    """
    What is known of a log from `cursor` on, behind which lie the `read` first entries of the log.

    `runs` were settled by a former owner and have not been read by this one. Ordinals are those of `mainstem.acks`,
    `first` the next one.
    """

    def __init__(self, read: int, first: int, runs: list[Run[str]]) -> None:
        self.runs = runs
        self._read = read
        self._at = first
        self._gaps: list[tuple[int, int, int]] = []  # at which ordinal, how many are missing, how many of them are lost
        self._seen = 0  # entries of the first run that were read
        self._unseen = 0  # entries of passed runs that were not there any more

    def count(self, ordinal: int) -> int:
        """Which entry of the log is the last one before this ordinal."""
        return self._read + ordinal - self._at + sum(missing for at, missing, _ in self._gaps if at <= ordinal)

    def was_settled(self, position: str) -> bool:
        """Whether a former owner settled the entry that is read now; positions must come in order."""
        while self.runs and before(self.runs[0].last, position):
            self._unseen += self.runs.pop(0).count - self._seen
            self._seen = 0
        found = bool(self.runs) and not before(position, self.runs[0].first)
        self._seen += found
        return found

    def rest(self, position: str) -> list[Run[str]]:
        """What of the runs lies behind `position`, up to which was read."""
        if not self._seen:
            return self.runs
        first, *others = self.runs
        left = first.count - self._seen
        return [Run(position, first.last, left), *others] if left > 0 else others

    def straddling(self, facts: LogFacts) -> Run[str] | None:
        """The run of which trimming took only a part, if there is one."""
        for run in self.runs:
            if facts.first and before(run.first, facts.first) and not before(run.last, facts.first):
                return run
        return None

    def lost(self, position: str, ordinal: int, facts: LogFacts, straddling: int) -> int:
        """
        How many entries were trimmed before anybody read them, as far as that was not told before.

        `position` is up to where all was read, `ordinal` the next one. A loss can be told while trimming is ahead of
        reading, and for certain once everything is read. `straddling` says how many entries are left of that run.
        """
        read = self.count(ordinal)
        if position == facts.last:
            self._read += min(0, facts.added - read)  # the log was deleted, and counts from its new beginning
            return self._note(ordinal, facts.added - read, self._forget(facts, 0, everything=True))
        if not facts.first or not before(position, facts.first) or facts.trimmed <= read:
            return 0
        return self._note(ordinal, facts.trimmed - read, self._forget(facts, straddling, everything=False))

    def passed(self, ordinal: int) -> tuple[int, int]:
        """How many gaps lie before this ordinal, and how many entries were lost in them."""
        lost = [lost for at, _, lost in self._gaps if at <= ordinal]
        return len(lost), sum(lost)

    def forget_gaps(self, count: int) -> None:
        """The first ones are accounted for on the server."""
        for at, missing, _ in self._gaps[:count]:
            self._read, self._at = self._read + at - self._at + missing, at
        del self._gaps[:count]

    def has_gap_behind(self, ordinal: int) -> bool:
        """Whether entries are missing behind this ordinal."""
        return any(at > ordinal for at, _, _ in self._gaps)

    def _note(self, ordinal: int, missing: int, settled: int) -> int:
        if missing <= 0:
            return 0
        lost = max(0, missing - settled)
        self._gaps.append((ordinal, missing, lost))
        return lost

    def _forget(self, facts: LogFacts, straddling: int, *, everything: bool) -> int:
        """Drop what is trimmed of the runs; returns how many settled entries went unread with that."""
        settled, self._unseen = self._unseen, 0
        kept: list[Run[str]] = []
        for run in self.runs:
            if not everything and facts.first and not before(run.first, facts.first):
                kept.append(run)
                continue
            left = straddling if not everything and facts.first and not before(run.last, facts.first) else 0
            settled += run.count - left - (self._seen if run is self.runs[0] else 0)
            kept += [Run(facts.first, run.last, left)] if left else []
        if kept != self.runs:
            self._seen = 0
        self.runs = kept
        return settled
