"""The accounting of a keyed partition against a model: every entry is read, settled before, or counted as lost once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mainstem.acks import Acks, Run
from mainstem.engines.redis.keyed_codec import (
    LogFacts,
    before,
    pack_runs,
    pack_tries,
    share,
    unpack_runs,
    unpack_tries,
)
from mainstem.engines.redis.keyed_ledger import Ledger


def place(number: int) -> str:
    return f"{1000 + number // 3}-{number % 3}"


class LedgerAgainstModel(RuleBasedStateMachine):
    """Entries are numbered from 1; `left` is the first one that is still stored."""

    def __init__(self) -> None:
        super().__init__()
        self.added = self.read_up_to = self.told = 0
        self.left = 1
        self.seen: set[int] = set()
        self.skipped: set[int] = set()
        self.settled: set[int] = set()
        self.acks: Acks[str] = Acks("0-0")
        self.ledger = Ledger(0, 0, [])

    @initialize(done=st.sets(st.integers(1, 30)), trimmed=st.integers(0, 34))
    def a_former_owner(self, done: set[int], trimmed: int) -> None:
        """It settled these of 30 entries and committed that."""
        acks: Acks[str] = Acks("0-0")
        acks.deliver([place(number) for number in range(1, 31)])
        acks.settle([number - 1 for number in done])
        self.added, self.read_up_to = 30, acks.frontier
        self.settled = done | set(range(1, acks.frontier + 1))
        self.acks = Acks(acks.cursor)
        self.ledger = Ledger(acks.frontier, 0, unpack_runs(pack_runs(acks.runs())))
        self.trim(trimmed)
        self.look()

    @rule(count=st.integers(1, 9))
    def add(self, count: int) -> None:
        self.added += count

    @rule(count=st.integers(1, 12))
    def trim(self, count: int) -> None:
        self.left = min(self.left + count, self.added + 1)

    @rule(count=st.integers(1, 12))
    def read(self, count: int) -> None:
        first = max(self.left, self.read_up_to + 1)
        page = list(range(first, min(first + count, self.added + 1)))
        if not page:
            return
        self.acks.deliver([place(number) for number in page])
        self.read_up_to = page[-1]
        for number in page:
            was = self.ledger.was_settled(place(number))
            assert was == (number in self.settled)
            (self.skipped if was else self.seen).add(number)

    @rule()
    def look(self) -> None:
        stored = self.left <= self.added
        facts = LogFacts(self.added, self.added - self.left + 1, place(self.left) if stored else "", place(self.added))
        run = self.ledger.straddling(facts)
        there = [n for n in range(self.left, self.added + 1) if run and not before(place(n), run.first)]
        left = len([n for n in there if run and not before(run.last, place(n))])
        self.told += self.ledger.lost(self._position(), self.acks.issued, facts, left)

    def _position(self) -> str:
        return place(self.read_up_to) if self.read_up_to else "0-0"

    @invariant()
    def nothing_is_told_that_is_not_lost(self) -> None:
        assert self.told <= len(self._lost())

    def _lost(self) -> set[int]:
        return set(range(1, self.left)) - self.seen - self.skipped - self.settled

    def teardown(self) -> None:
        while self.read_up_to < self.added and self.left <= self.added:
            self.read(12)
        if self.left > self.added:
            return
        self.look()
        assert self.told == len(self._lost())
        assert self.ledger.count(self.acks.issued) == self.added


TestLedgerAgainstModel = LedgerAgainstModel.TestCase
TestLedgerAgainstModel.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)


@given(st.sets(st.integers(0, 60)), st.integers(0, 60))
def test_what_is_left_of_the_runs_is_enough_for_the_next_owner(done: set[int], stop: int) -> None:
    """Read a part, commit what is left, and read the rest with that: the same entries are known to be settled."""
    acks: Acks[str] = Acks("0-0")
    acks.deliver([place(number) for number in range(61)])
    acks.settle(list(done))
    first = Ledger(0, 0, acks.runs())
    known = {number for number in range(acks.frontier, stop) if first.was_settled(place(number))}
    rest = first.rest(place(max(acks.frontier, stop) - 1)) if stop > acks.frontier else first.runs
    assert sum(run.count for run in rest) == len([number for number in done if number >= max(acks.frontier, stop)])
    second = Ledger(0, 0, unpack_runs(pack_runs(rest)))
    known |= {number for number in range(max(acks.frontier, stop), 61) if second.was_settled(place(number))}
    assert known == {number for number in done if number >= acks.frontier}


@given(st.lists(st.tuples(st.integers(0, 10**13), st.integers(0, 2**64 - 1), st.integers(1, 1000))))
def test_runs_are_read_as_they_were_written(runs: list[tuple[int, int, int]]) -> None:
    made = [Run(f"{ms}-{seq}", f"{ms}-{seq}" if count == 1 else f"{ms + 1}-{seq}", count) for ms, seq, count in runs]
    assert unpack_runs(pack_runs(made)) == made


@given(st.dictionaries(st.from_regex(r"@?[0-9]{1,13}-[0-9]{1,5}", fullmatch=True), st.integers(1, 99)))
def test_the_journal_is_read_as_it_was_written(tries: dict[str, int]) -> None:
    assert unpack_tries(pack_tries(tries)) == tries


@given(st.sets(st.text(min_size=1), min_size=1, max_size=20), st.integers(1, 64))
def test_shares_add_up_and_differ_by_one_at_most(members: set[str], partitions: int) -> None:
    shares = [share(sorted(members), member, partitions) for member in members]
    assert sum(shares) == partitions
    assert max(shares) - min(shares) <= 1
    assert share(sorted(members), "\0nobody", partitions) == 0


def test_16_partitions_are_shared_by_5_without_leaving_one_idle() -> None:
    assert [share("abcde", member, 16) for member in "abcde"] == [4, 3, 3, 3, 3]
