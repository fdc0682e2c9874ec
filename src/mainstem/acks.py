"""
Which of the events read in order are settled, and how far all of them are: what a cursor may say.

Pure: no clock, no input or output, and no engine's word; a position is whatever the engine resumes from. Events are
named by ordinals, integers that count the delivered ones, so that a whole batch is marked without an object per event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Run(Generic[P]):
    """Neighbours in the order of delivery that are all settled: both ends included, `count` events in all."""

    first: P
    last: P
    count: int


class Acks(Generic[P]):
    """
    Tracks one partition from `cursor` on; its first event will have the ordinal `first`.

    The cursor moves over settled events only, so a later success never passes an unfinished event.
    """

    __slots__ = ("_base", "_cursor", "_marks", "_positions")

    def __init__(self, cursor: P, first: int = 0) -> None:
        self._cursor = cursor
        self._base = first
        self._positions: list[P] = []
        self._marks = bytearray()  # one byte an event behind the cursor, 1: settled; never begins with 1

    @property
    def cursor(self) -> P:
        """The position up to which every event is settled."""
        return self._cursor

    @property
    def frontier(self) -> int:
        """The ordinal of the first event behind the cursor, delivered or yet to come."""
        return self._base

    @property
    def issued(self) -> int:
        """The ordinal that the next delivered event gets."""
        return self._base + len(self._marks)

    @property
    def span(self) -> int:
        """How many events were delivered behind the cursor, settled or not."""
        return len(self._marks)

    @property
    def open(self) -> int:
        """How many delivered events are not settled."""
        return self._marks.count(0)

    def deliver(self, positions: Sequence[P]) -> int:
        """Take in the next events, in order; returns the ordinal of the first, the others follow it."""
        first = self.issued
        self._positions += positions
        self._marks += bytes(len(positions))
        return first

    @property
    def last(self) -> P:
        """The position up to which events were delivered."""
        return self._positions[-1] if self._positions else self._cursor

    def retract(self, count: int) -> None:
        """Take back the last `count` delivered events, none of which may be settled: they will be delivered again."""
        if not 0 <= count <= len(self._marks) or 1 in self._marks[len(self._marks) - count :]:
            raise ValueError(f"{count} of {len(self._marks)} events cannot be taken back: some of them are settled.")
        if count:
            del self._positions[-count:]
            del self._marks[-count:]

    def settled(self, ordinal: int) -> bool:
        """Whether a delivered event is settled. Raises ValueError for one that was never delivered."""
        index = ordinal - self._base
        if index >= len(self._marks):
            raise ValueError(f"ordinal {ordinal} was not delivered: the next one is {self.issued}.")
        return index < 0 or self._marks[index] == 1

    def settle(self, ordinals: Iterable[int]) -> int:
        """
        Mark these as settled, in any order and any number of times; returns by how many events the cursor moved.

        Raises ValueError for an ordinal that was never delivered; those before it in the same call are marked.
        """
        base, marks = self._base, self._marks
        try:
            for ordinal in ordinals:
                if ordinal >= base:
                    marks[ordinal - base] = 1
        except IndexError:
            raise ValueError(f"an ordinal was settled that was not delivered: the next one is {self.issued}.") from None
        finally:
            moved = self._advance()
        return moved

    def runs(self) -> list[Run[P]]:
        """What is settled behind the cursor, in order: with the cursor, all that a successor has to know."""
        found: list[Run[P]] = []
        marks, positions = self._marks, self._positions
        start = marks.find(1)
        while start >= 0:
            end = marks.find(0, start)
            end = len(marks) if end < 0 else end
            found.append(Run(positions[start], positions[end - 1], end - start))
            start = marks.find(1, end)
        return found

    def _advance(self) -> int:
        done = self._marks.find(0)
        done = len(self._marks) if done < 0 else done
        if done:
            self._cursor = self._positions[done - 1]
            del self._positions[:done]
            del self._marks[:done]
            self._base += done
        return done
