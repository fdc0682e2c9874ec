"""
What one group has done with one partition: read so far, out for handling, waiting to be handled again, given up.

Pure state; time is an argument. Who may take from a desk is decided in groups.py.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from mainstem.engine import Back, Dead, DeadLetter, Delivery, Done, Gap, Part, Settled
from mainstem.engines.memory.log import Entry, Log, size_of

_NUMBERS = itertools.count(1)  # of leases, turns and letters; never used twice, so an old tag matches nothing new


class Holder(Protocol):
    """Whoever takes entries: it bounds the bytes that it holds unsettled."""

    held: int

    def has_room(self, size: int) -> bool: ...


@dataclass(frozen=True, slots=True)
class Turn:
    """One entry of the group, with the failed or crashed attempts so far. `restored`: it came from the dead letters."""

    entry: Entry
    attempts: int = 0
    restored: bool = False

    def counted(self, more: int) -> Turn:
        return Turn(self.entry, self.attempts + more, self.restored)


@dataclass(frozen=True, slots=True)
class Lease:
    """A turn that a holder has."""

    turn: Turn
    holder: Holder


@dataclass(frozen=True, slots=True, order=True)
class Waiting:
    """A turn to be taken again once `due` is reached; of those that are due the oldest entry goes first."""

    due: float
    ordinal: int
    number: int
    turn: Turn = field(compare=False)


class Desk:
    """The state of one group on one partition. `read` is the last ordinal handed out for the first time."""

    def __init__(self, log: Log, read: int) -> None:
        self._log = log
        self._out: dict[int, Lease] = {}
        self._again: list[Waiting] = []
        self.read = read
        self.lost = 0
        self.dead: dict[str, DeadLetter] = {}

    @property
    def part(self) -> Part:
        return self._log.part

    @property
    def lag(self) -> int:
        return self._log.last - max(self.read, self._log.first - 1)

    @property
    def missing(self) -> int:
        """Trimmed before they were handed out, and not accounted for yet."""
        return max(0, self._log.first - 1 - self.read)

    @property
    def pending(self) -> int:
        return len(self._out) + len(self._again)

    @property
    def due(self) -> float:
        """When the first waiting turn may be taken."""
        return self._again[0].due if self._again else float("inf")

    def settled_up_to(self) -> int:
        """Every ordinal up to this one is settled: no checkpoint passes an unfinished event."""
        return min((turn.entry.ordinal - 1 for turn in self._turns() if not turn.restored), default=self.read)

    def oldest_ms(self) -> int | None:
        """Time of the oldest entry that is not settled."""
        times = [turn.entry.ms for turn in self._turns()]
        times += [entry.ms for entry in self._log.after(self.read, 1)]
        return min(times, default=None)

    def gap(self) -> Gap | None:
        """Account for what trimming took before it was handed out."""
        missing = self.missing
        if not missing:
            return None
        self.lost += missing
        self.read += missing
        return Gap(self.part, missing)

    def take(self, holder: Holder, limit: int, now: float) -> list[Delivery]:
        """Hand out what is due again, oldest first, then what was never handed out."""
        taken: list[Delivery] = []
        while len(taken) < limit:
            turn = self._next(now)
            if turn is None or not holder.has_room(size_of(turn.entry.record)):
                return taken
            self._drop_next(turn)
            taken.append(self._lend(turn, holder))
        return taken

    def settle(self, holder: Holder, item: Settled, now: float, now_ms: int) -> bool:
        """Apply it, or return False: another holder has the entry now, and nothing was changed."""
        number = item.delivery.tag
        lease = self._out.get(number) if isinstance(number, int) else None
        if lease is None or lease.holder is not holder:
            return False
        turn = self._return(item.delivery.tag)
        match item:
            case Done():
                pass
            case Back(after=after, attempts=attempts):
                self._wait(turn.counted(attempts), now + after)
            case Dead(cause=cause):
                self._bury(turn, cause, now_ms)
        return True

    def give_back(self, holder: Holder, *, counted: bool) -> tuple[str, ...]:
        """Put back all that the holder has; returns the positions. `counted`: it crashed with them."""
        numbers = [number for number, lease in self._out.items() if lease.holder is holder]
        turns = [self._return(number) for number in numbers]
        for turn in turns:
            self._wait(turn.counted(counted), 0.0)
        return tuple(str(turn.entry.ordinal) for turn in turns)

    def hurry(self) -> None:
        """Make all that waits due: a new owner begins at the oldest unsettled entry, so that order holds."""
        waiting, self._again = self._again, []
        for each in waiting:
            self._wait(each.turn, 0.0)

    def seek(self, ordinal: int) -> None:
        """Go on behind the ordinal. What is out is fenced; restored letters stay to be handled."""
        restored = [turn for turn in self._turns() if turn.restored]
        for number in list(self._out):
            self._return(number)
        self._again = []
        self.read = ordinal
        for turn in restored:
            self._wait(turn, 0.0)

    def restore(self, ids: Iterable[str]) -> int:
        """Deliver dead letters again, their attempts forgotten; returns how many."""
        letters = [self.dead.pop(each) for each in ids if each in self.dead]
        for letter in letters:
            entry = Entry(int(letter.position), letter.record, letter.at_ms)
            self._wait(Turn(entry, restored=True), 0.0)
        return len(letters)

    def _turns(self) -> Iterator[Turn]:
        yield from (lease.turn for lease in self._out.values())
        yield from (each.turn for each in self._again)

    def _next(self, now: float) -> Turn | None:
        if self._again and self._again[0].due <= now:
            return self._again[0].turn
        return next((Turn(entry) for entry in self._log.after(self.read, 1)), None)

    def _drop_next(self, turn: Turn) -> None:
        if self._again and self._again[0].turn is turn:
            heapq.heappop(self._again)
        else:
            self.read = turn.entry.ordinal

    def _lend(self, turn: Turn, holder: Holder) -> Delivery:
        number = next(_NUMBERS)
        self._out[number] = Lease(turn, holder)
        entry = turn.entry
        holder.held += size_of(entry.record)
        return Delivery(self.part, str(entry.ordinal), entry.record, entry.ms, turn.attempts + 1, number)

    def _return(self, number: object) -> Turn:
        assert isinstance(number, int)
        lease = self._out.pop(number)
        lease.holder.held -= size_of(lease.turn.entry.record)
        return lease.turn

    def _wait(self, turn: Turn, due: float) -> None:
        heapq.heappush(self._again, Waiting(due, turn.entry.ordinal, next(_NUMBERS), turn))

    def _bury(self, turn: Turn, cause: bytes, now_ms: int) -> None:
        name = f"{next(_NUMBERS):016}"  # sorts in the order of burial
        entry = turn.entry
        self.dead[name] = DeadLetter(name, self.part, str(entry.ordinal), entry.record, cause, now_ms)
