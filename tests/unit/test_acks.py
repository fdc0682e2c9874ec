"""The ack tracker against the plainest model of it: a dictionary of what was settled."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mainstem.acks import Acks, Run


def test_a_later_success_never_passes_an_unfinished_event() -> None:
    acks = Acks("0-0")
    assert acks.deliver(["1-0", "2-0", "3-0"]) == 0
    assert acks.settle([1, 2]) == 0
    assert (acks.cursor, acks.span, acks.open) == ("0-0", 3, 1)
    assert acks.runs() == [Run("2-0", "3-0", 2)]
    assert acks.settle([0]) == 3
    assert (acks.cursor, acks.span, acks.open, acks.runs()) == ("3-0", 0, 0, [])


def test_ordinals_go_on_from_the_first_and_across_batches() -> None:
    acks = Acks(17, first=5 << 40)
    assert acks.deliver([18, 20]) == 5 << 40
    assert acks.deliver([21]) == (5 << 40) + 2
    assert acks.settle([5 << 40]) == 1
    assert (acks.cursor, acks.frontier, acks.issued) == (18, (5 << 40) + 1, (5 << 40) + 3)


def test_settling_again_changes_nothing() -> None:
    acks = Acks(0)
    acks.deliver([1, 2, 3])
    acks.settle([0, 1])
    assert acks.settle([0, 1, 0]) == 0
    assert acks.cursor == 2
    assert acks.settled(1)
    assert not acks.settled(2)


def test_what_was_never_delivered_cannot_be_settled() -> None:
    acks = Acks(0)
    acks.deliver([1, 2])
    with pytest.raises(ValueError, match="the next one is 2"):
        acks.settle([0, 2])
    assert acks.cursor == 1  # those before it count
    with pytest.raises(ValueError, match="ordinal 2 was not delivered"):
        acks.settled(2)


class AcksAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.acks = Acks(-1, first=3)
        self.positions: list[int] = []
        self.done: set[int] = set()

    @rule(steps=st.lists(st.integers(1, 9), max_size=20))
    def deliver(self, steps: list[int]) -> None:
        batch: list[int] = []
        last = self.positions[-1] if self.positions else 0
        for step in steps:
            last += step
            batch.append(last)
        assert self.acks.deliver(batch) == 3 + len(self.positions)
        self.positions += batch

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        if not self.positions:
            return
        low = max(0, self._contiguous() - 3)
        chosen = data.draw(st.lists(st.integers(low, min(len(self.positions) - 1, low + 25)), max_size=12))
        before = self._contiguous()
        self.done.update(chosen)
        assert self.acks.settle([3 + index for index in chosen]) == self._contiguous() - before

    def _contiguous(self) -> int:
        index = 0
        while index in self.done:
            index += 1
        return index

    @rule(count=st.integers(1, 6))
    def retract(self, count: int) -> None:
        tail = range(len(self.positions) - count, len(self.positions))
        if tail.start < self._contiguous() or any(index in self.done for index in tail):
            with pytest.raises(ValueError, match="cannot be taken back"):
                self.acks.retract(count)
            return
        self.acks.retract(count)
        del self.positions[-count:]

    @invariant()
    def agrees(self) -> None:
        edge = self._contiguous()
        assert self.acks.cursor == (self.positions[edge - 1] if edge else -1)
        assert self.acks.frontier == 3 + edge
        assert self.acks.issued == 3 + len(self.positions)
        assert self.acks.last == (self.positions[-1] if self.positions else -1)
        assert self.acks.span == len(self.positions) - edge
        assert self.acks.open == len(self.positions) - len(self.done)

    @invariant()
    def a_successor_knows_what_is_done(self) -> None:
        cursor, runs = self.acks.cursor, self.acks.runs()
        known = {p for p in self.positions if p <= cursor or any(run.first <= p <= run.last for run in runs)}
        assert known == {self.positions[index] for index in self.done}
        assert sum(run.count for run in runs) == len([index for index in self.done if index >= self._contiguous()])
        assert all(a.last < b.first for a, b in itertools.pairwise(runs))


TestAcksAgainstModel = AcksAgainstModel.TestCase
TestAcksAgainstModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.permutations(range(40)), st.integers(1, 7))
def test_any_order_of_settling_ends_at_the_last(order: list[int], size: int) -> None:
    acks = Acks(-1)
    acks.deliver(range(40))
    moved = [acks.settle(order[at : at + size]) for at in range(0, 40, size)]
    assert sum(moved) == 40
    assert (acks.cursor, acks.span, acks.runs()) == (39, 0, [])
