"""Who runs next: a model that hypothesis drives, of which each job is in exactly one place at a time."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mainstem.engine import Delivery, Part, Record
from mainstem.event import Received
from mainstem.processing.lanes import Job, LaneKey, Lanes

RECORD = Record(b"i", b"t", b"s", b"", b"", b"{}", b"")


def job(number: int, part: Part, key: str | None) -> Job:
    delivery = Delivery(part, str(number), RECORD, 0)
    event: Received[Any] = Received(data=number, stream=part[0], position=str(number), recorded_ms=0)
    return Job(delivery, event, None if key is None else (part, key.encode()))


def test_a_queue_has_no_order_to_keep() -> None:
    lanes = Lanes()
    for number in range(3):
        lanes.add(job(number, ("q", 0), None))
    assert [each.event.data for each in lanes.ready] == [0, 1, 2]


def test_a_key_waits_for_its_retry_and_other_keys_do_not() -> None:
    lanes = Lanes()
    a1, a2, b1 = job(1, ("k", 0), "a"), job(2, ("k", 0), "a"), job(3, ("k", 0), "b")
    for each in (a1, a2, b1):
        lanes.add(each)
    assert list(lanes.ready) == [a1, b1]
    lanes.ready.clear()  # both run; a1 fails and sleeps
    lanes.finish(b1)
    assert not lanes.ready
    lanes.again(a1)
    assert lanes.ready.popleft() is a1
    lanes.finish(a1)
    assert list(lanes.ready) == [a2]


def test_the_same_key_of_two_partitions_is_two_lanes() -> None:
    lanes = Lanes()
    lanes.add(job(1, ("k", 0), "a"))
    lanes.add(job(2, ("k", 1), "a"))
    assert len(lanes.ready) == 2


def test_a_dropped_job_that_ends_frees_nothing() -> None:
    lanes = Lanes()
    old, new = job(1, ("k", 0), "a"), job(2, ("k", 0), "a")
    lanes.add(old)
    lanes.ready.clear()
    lanes.drop(("k", 0))
    old.dropped = True
    lanes.add(new)
    lanes.ready.clear()  # the new owner's job of this key runs
    lanes.add(waits := job(3, ("k", 0), "a"))
    lanes.finish(old)
    assert waits not in lanes.ready


class LanesMachine(RuleBasedStateMachine):
    """A worker with any number of runners: jobs come, run, fail, sleep, end, and are dropped with their partition."""

    @initialize()
    def begin(self) -> None:
        self.lanes = Lanes()
        self.count = 0
        self.running: list[Job] = []
        self.asleep: list[Job] = []
        self.gone: set[int] = set()
        self.finished: dict[LaneKey, list[int]] = defaultdict(list)
        self.added: dict[LaneKey, list[int]] = defaultdict(list)
        self.jobs: dict[int, Job] = {}

    @rule(partition=st.integers(0, 2), key=st.sampled_from("abc"), keyed=st.booleans())
    def add(self, partition: int, key: str, keyed: bool) -> None:
        self.count += 1
        new = job(self.count, ("k", partition) if keyed else ("q", 0), key if keyed else None)
        self.jobs[self.count] = new
        if new.lane:
            self.added[new.lane].append(self.count)
        self.lanes.add(new)

    @precondition(lambda self: self.lanes.ready)
    @rule()
    def run(self) -> None:
        self.running.append(self.lanes.ready.popleft())

    @precondition(lambda self: self.running)
    @rule(data=st.data(), failed=st.booleans())
    def end(self, data: st.DataObject, failed: bool) -> None:
        each = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        if failed:
            self.asleep.append(each)
            return
        if each.lane:
            self.finished[each.lane].append(each.event.data)
        self.gone.add(each.event.data)
        self.lanes.finish(each)

    @precondition(lambda self: self.asleep)
    @rule(data=st.data())
    def wake(self, data: st.DataObject) -> None:
        self.lanes.again(self.asleep.pop(data.draw(st.integers(0, len(self.asleep) - 1))))

    @rule(partition=st.integers(0, 2))
    def lose_partition(self, partition: int) -> None:
        part = ("k", partition)
        dropped = self.lanes.drop(part)
        for each in [each for each in [*self.running, *self.asleep] if each.delivery.part == part]:
            each.dropped = True
            dropped.append(each)
        self.running = [each for each in self.running if not each.dropped]
        self.asleep = [each for each in self.asleep if not each.dropped]
        self.forget(dropped)

    @rule(positions=st.frozensets(st.integers(1, 30).map(str), min_size=1, max_size=5))
    def lose_some_of_a_queue(self, positions: frozenset[str]) -> None:
        dropped = self.lanes.drop(("q", 0), positions)
        assert {each.delivery.position for each in dropped} <= positions
        self.forget(dropped)

    @rule()
    def clear(self) -> None:
        dropped = self.lanes.clear()
        assert not set(map(id, dropped)) & set(map(id, self.running + self.asleep))
        for each in [*self.running, *self.asleep]:  # the worker ends: nothing of them counts any more
            each.dropped = True
        dropped += self.running + self.asleep
        self.running, self.asleep = [], []
        self.forget(dropped)

    def forget(self, dropped: list[Job]) -> None:
        numbers = [each.event.data for each in dropped]
        assert len(numbers) == len(set(numbers)), "each is dropped once"
        assert not set(numbers) & self.gone
        assert all(each.dropped for each in dropped)
        self.gone |= set(numbers)
        for lane in self.added:
            self.added[lane] = [number for number in self.added[lane] if number not in numbers]

    @invariant()
    def one_at_a_time_and_in_order(self) -> None:
        if not hasattr(self, "lanes"):
            return
        out = [each.lane for each in [*self.lanes.ready, *self.running, *self.asleep] if each.lane]
        assert len(out) == len(set(out)), "a key has two jobs out at once"
        for lane, finished in self.finished.items():
            kept = [number for number in finished if number in self.added[lane]]
            assert kept == self.added[lane][: len(kept)], "a key's jobs ended out of order"

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "lanes"):
            return
        there = [each.event.data for each in [*self.lanes.ready, *self.running, *self.asleep]]
        busy = {each.lane for each in [*self.lanes.ready, *self.running, *self.asleep]}
        missing = set(self.jobs) - self.gone - set(there)
        assert all(self.jobs[number].lane in busy for number in missing), "a job waits behind nobody"

    def teardown(self) -> None:
        if not hasattr(self, "lanes"):
            return
        while self.lanes.ready or self.running or self.asleep:
            for each in self.asleep:
                self.lanes.again(each)
            self.asleep = []
            self.running += self.lanes.ready
            self.lanes.ready.clear()
            for each in self.running:
                self.gone.add(each.event.data)
                self.lanes.finish(each)
            self.running = []
        assert self.gone == set(self.jobs), "in the end every job has run or was dropped"


TestLanes = LanesMachine.TestCase
TestLanes.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(st.lists(st.sampled_from("ab"), max_size=20))
def test_each_key_ends_in_the_order_it_came(keys: list[str]) -> None:
    lanes, ended = Lanes(), defaultdict[str, list[int]](list)
    for number, key in enumerate(keys):
        lanes.add(job(number, ("k", 0), key))
    while lanes.ready:
        each = lanes.ready.pop()  # the last first: order must not depend on who is quick
        ended[keys[each.event.data]].append(each.event.data)
        lanes.finish(each)
    assert all(numbers == sorted(numbers) for numbers in ended.values())
    assert sum(map(len, ended.values())) == len(keys)
