"""
What a partition's hash holds, as text: the runs settled beyond the cursor, the journal of attempts. Pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mainstem.acks import Run
from mainstem.engines.redis.replies import data, integer
from mainstem.engines.redis.wire import Reply


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What the server tells of a log; `first` and `last` are entry ids, `first` is empty when nothing is stored."""

    added: int
    length: int
    first: str
    last: str

    @classmethod
    def of(cls, reply: Sequence[Reply]) -> LogFacts:
        """Read what the scripts return."""
        added, length, first, last = reply
        return cls(integer(added), integer(length), data(first).decode(), data(last).decode())

    @property
    def trimmed(self) -> int:
        """Entries that are no longer there; mainstem only ever removes the oldest."""
        return self.added - self.length


def before(one: str, other: str) -> bool:
    """Whether an entry id is smaller than the other."""
    return _numbers(one) < _numbers(other)


def pack_runs(runs: Sequence[Run[str]]) -> str:
    """`first~last~count` of each, or `first` alone where that is the last one too."""
    return " ".join(run.first if run.first == run.last else f"{run.first}~{run.last}~{run.count}" for run in runs)


def unpack_runs(text: str) -> list[Run[str]]:
    """The reverse of `pack_runs`."""
    found: list[Run[str]] = []
    for word in text.split():
        first, _, rest = word.partition("~")
        last, _, count = rest.partition("~")
        found.append(Run(first, last, int(count)) if rest else Run(first, first, 1))
    return found


def pack_tries(tries: Mapping[str, int]) -> str:
    """`name=attempts` of each event that was tried before and is not settled."""
    return " ".join(f"{name}={count}" for name, count in tries.items())


def unpack_tries(text: str) -> dict[str, int]:
    """The reverse of `pack_tries`."""
    return {name: int(count) for name, _, count in (word.partition("=") for word in text.split())}


def share(members: Sequence[str], me: str, partitions: int) -> int:
    """
    How many of the partitions `me` should own, the members being sorted: the first ones have one more.

    The shares of all members add up to the number of partitions, so nothing stays unowned and nobody waits for more.
    """
    if me not in members:
        return 0
    each, more = divmod(partitions, len(members))
    return each + (sorted(members).index(me) < more)


def _numbers(position: str) -> tuple[int, int]:
    ms, _, seq = position.partition("-")
    return int(ms), int(seq or 0)
