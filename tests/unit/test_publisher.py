"""
Publishing above the contract: coalescing, order, back-pressure, deadlines, and what is said about each event.

The engine here is a small one of our own at the contract's seam, so that it can be stuck, away or unsure on command.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from mainstem import publisher as module
from mainstem.engine import Engine, Part, Published, Record
from mainstem.errors import MainstemError, OutcomeUnknown, PermissionDenied, Unavailable
from mainstem.hooks import Hooks, PublishDetail
from mainstem.publisher import Publisher
from waiting import wait_until

PART: Part = ("ticks", 0)
Item = tuple[Part, Record]


def record(id: str, data: bytes = b"{}") -> Record:
    return Record(id.encode(), b"t", b"s", b"2026-01-01T00:00:00Z", b"", data, b"")


def records(count: int, data: bytes = b"{}") -> list[Item]:
    return [(PART, record(str(at), data)) for at in range(count)]


class Store:
    """An engine as far as publishing goes. `script` says what happens to each call; without one it stores."""

    def __init__(self, *script: Callable[[Sequence[Item]], Sequence[Published]]) -> None:
        self.calls: list[list[str]] = []
        self.stored: list[str] = []
        self.waits: list[float] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._script = list(script)

    async def publish(self, items: Sequence[Item], wait: float) -> Sequence[Published]:
        self.calls.append([item[1].id.decode() for item in items])
        self.waits.append(wait)
        answer = self._script.pop(0) if self._script else self.store
        await self.gate.wait()
        return answer(items)

    def store(self, items: Sequence[Item]) -> Sequence[Published]:
        outcomes: list[Published] = []
        for _, one in items:
            self.stored.append(one.id.decode())
            outcomes.append(str(len(self.stored)))
        return outcomes


def away(items: Sequence[Item]) -> Sequence[Published]:
    return [Unavailable("no server: start it.")] * len(items)


def unsure(items: Sequence[Item]) -> Sequence[Published]:
    return [OutcomeUnknown("the reply was lost.", [one.id.decode()]) for _, one in items]


def publisher(store: Store, deadline: float = 5.0, hooks: Hooks | None = None) -> Publisher:
    return Publisher(cast(Engine, store), hooks or Hooks(), deadline)


def slices(items: list[Item]) -> list[list[Item]]:
    return [items[at : at + module.SLICE] for at in range(0, len(items), module.SLICE)]


# Coalescing and order


async def test_publishes_of_one_tick_leave_together_in_order() -> None:
    store = Store()
    publish = publisher(store)
    positions = await asyncio.gather(*(publish.publish(*item) for item in records(1000)))
    assert [one for call in store.calls for one in call] == [str(at) for at in range(1000)]
    assert max(map(len, store.calls)) == module.FLIGHT  # so that encoding and storing overlap
    assert len(store.calls) == -(-1000 // module.FLIGHT)
    assert positions == [str(at + 1) for at in range(1000)]


async def test_what_comes_while_calls_are_in_the_air_leaves_together() -> None:
    store = Store()
    store.gate.clear()
    publish = publisher(store)
    first: list[asyncio.Task[str]] = []
    for at in range(module.FLIGHTS):
        first.append(asyncio.create_task(publish.publish(PART, record(f"flight{at}"))))
        await wait_until(lambda at=at: len(store.calls) == at + 1)  # type: ignore[misc]
    late = [asyncio.create_task(publish.publish(PART, record(f"late{at}"))) for at in range(50)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(store.calls) == module.FLIGHTS
    store.gate.set()
    await asyncio.gather(*first, *late)
    assert store.calls[-1] == [f"late{at}" for at in range(50)]


async def test_one_publisher_at_a_time_needs_no_company() -> None:
    store = Store()
    publish = publisher(store)
    assert [await publish.publish(*item) for item in records(3)] == ["1", "2", "3"]
    assert store.calls == [["0"], ["1"], ["2"]]


async def test_a_batch_leaves_in_order_whatever_its_size() -> None:
    store = Store()
    count = module.SLICE * 4 + 7
    outcomes = await publisher(store).publish_batch(slices(records(count)))
    assert outcomes == [str(at + 1) for at in range(count)]
    assert store.stored == [str(at) for at in range(count)]
    assert max(map(len, store.calls)) == module.SLICE


async def test_an_empty_batch_is_no_call() -> None:
    store = Store()
    assert await publisher(store).publish_batch([]) == []
    assert store.calls == []


# What is said about each event


async def test_what_was_not_stored_is_sent_again_and_only_that() -> None:
    def half(items: Sequence[Item]) -> Sequence[Published]:
        return [*store.store(items[:2]), *away(items[2:])]

    store = Store(half)
    publish = publisher(store)
    positions = await asyncio.gather(*(publish.publish(*item) for item in records(5)))
    assert store.stored == ["0", "1", "2", "3", "4"]
    assert store.calls == [["0", "1", "2", "3", "4"], ["2", "3", "4"]]
    assert positions == ["1", "2", "3", "4", "5"]


async def test_what_is_unknown_is_never_sent_again() -> None:
    store = Store(unsure)
    publish = publisher(store)
    outcomes = await asyncio.gather(*(publish.publish(*item) for item in records(3)), return_exceptions=True)
    assert [cast(OutcomeUnknown, outcome).ids for outcome in outcomes] == [("0",), ("1",), ("2",)]
    assert len(store.calls) == 1


async def test_unknown_first_and_unsent_after_are_told_apart() -> None:
    def broke_off(items: Sequence[Item]) -> Sequence[Published]:
        return [*store.store(items[:1]), *unsure(items[1:2]), *away(items[2:])]

    store = Store(broke_off)
    publish = publisher(store)
    outcomes = await asyncio.gather(*(publish.publish(*item) for item in records(4)), return_exceptions=True)
    assert outcomes[0] == "1"
    assert isinstance(outcomes[1], OutcomeUnknown)
    assert outcomes[2:] == ["2", "3"]
    assert store.stored == ["0", "2", "3"]


async def test_at_the_deadline_it_is_unavailable_and_was_tried_until_then() -> None:
    store = Store(*[away] * 1000)
    publish = publisher(store, deadline=0.3)
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="no server: start it"):
        await publish.publish(PART, record("1"))
    assert 0.1 < time.monotonic() - begun < 1.0
    assert len(store.calls) >= 3
    assert store.waits == sorted(store.waits, reverse=True)
    assert store.stored == []


async def test_the_engine_is_told_how_long_it_may_wait() -> None:
    store = Store()
    await publisher(store, deadline=7.0).publish(PART, record("1"))
    assert 6.0 < store.waits[0] <= 7.0


async def test_other_errors_are_final_and_of_their_event_only() -> None:
    def denied(items: Sequence[Item]) -> Sequence[Published]:
        return [PermissionDenied("user 'x' may not XADD: grant it."), *store.store(items[1:])]

    store = Store(denied)
    publish = publisher(store)
    outcomes = await asyncio.gather(*(publish.publish(*item) for item in records(2)), return_exceptions=True)
    assert isinstance(outcomes[0], PermissionDenied)
    assert outcomes[1] == "1"
    assert len(store.calls) == 1


async def test_each_caller_has_an_exception_of_its_own_with_the_cause() -> None:
    cause = OSError("reset")

    def denied(items: Sequence[Item]) -> Sequence[Published]:
        error = PermissionDenied("no.")
        error.__cause__ = cause
        return [error] * len(items)

    publish = publisher(Store(denied))
    outcomes = await asyncio.gather(*(publish.publish(*item) for item in records(3)), return_exceptions=True)
    assert len({id(outcome) for outcome in outcomes}) == 3
    assert {cast(MainstemError, outcome).__cause__ for outcome in outcomes} == {cause}


async def test_after_a_record_of_a_batch_that_could_not_be_sent_none_of_the_later_is() -> None:
    count = module.SLICE * 3
    store = Store(lambda items: store.store(items), *[away] * 1000)
    outcomes = await publisher(store, deadline=0.3).publish_batch(slices(records(count)))
    assert store.stored == [str(at) for at in range(module.SLICE)]
    assert all(isinstance(outcome, str) for outcome in outcomes[: module.SLICE])
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes[module.SLICE :])
    assert len(outcomes) == count


async def test_an_outage_in_the_middle_of_a_batch_keeps_the_order() -> None:
    count = module.SLICE * 5
    store = Store(lambda items: store.store(items), away, away, away)
    outcomes = await publisher(store).publish_batch(slices(records(count)))
    assert store.stored == [str(at) for at in range(count)]
    assert outcomes == [str(at + 1) for at in range(count)]


# Cancelling and closing


async def test_a_cancelled_caller_does_not_disturb_the_others() -> None:
    store = Store()
    store.gate.clear()
    publish = publisher(store)
    tasks = [asyncio.create_task(publish.publish(*item)) for item in records(5)]
    await wait_until(lambda: store.calls)
    tasks[1].cancel()
    tasks[3].cancel()
    store.gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [outcomes[at] for at in (0, 2, 4)] == ["1", "3", "5"]
    assert all(isinstance(outcomes[at], asyncio.CancelledError) for at in (1, 3))
    assert await publish.publish(PART, record("next")) == "6"


async def test_close_waits_for_what_was_accepted() -> None:
    store = Store()
    store.gate.clear()
    publish = publisher(store)
    tasks = [asyncio.create_task(publish.publish(*item)) for item in records(10)]
    await wait_until(lambda: store.calls)
    closing = asyncio.create_task(publish.close())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not closing.done()
    store.gate.set()
    await closing
    assert [await task for task in tasks] == [str(at + 1) for at in range(10)]


async def test_abort_leaves_the_outcome_unknown_and_says_so() -> None:
    store = Store()
    store.gate.clear()
    publish = publisher(store)
    tasks = [asyncio.create_task(publish.publish(*item)) for item in records(2)]
    await wait_until(lambda: store.calls)
    publish.abort()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [cast(OutcomeUnknown, outcome).ids for outcome in outcomes] == [("0",), ("1",)]
    assert "may be stored" in str(outcomes[0])
    await publish.close()


# Back-pressure


async def test_a_stuck_engine_slows_publishers_down_in_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVENTS_HELD", 100)
    store = Store()
    store.gate.clear()
    publish = publisher(store)
    accepted = [asyncio.create_task(publish.publish(*item)) for item in records(500)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert publish._events == 100  # pyright: ignore[reportPrivateUsage]
    store.gate.set()
    assert sorted(map(int, await asyncio.gather(*accepted))) == list(range(1, 501))
    assert store.stored == [str(at) for at in range(500)], "those that waited go in their order"
    assert publish._events == publish._bytes == 0  # pyright: ignore[reportPrivateUsage]


async def test_a_stuck_engine_slows_publishers_down_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES_HELD", 100_000)
    store = Store()
    store.gate.clear()
    publish = publisher(store)
    tasks = [asyncio.create_task(publish.publish(*item)) for item in records(100, b"x" * 10_000)]
    for _ in range(20):
        await asyncio.sleep(0)
    held = publish._bytes  # pyright: ignore[reportPrivateUsage]
    assert 100_000 <= held <= 100_000 + 10_200, "at most one event above the bound"
    store.gate.set()
    await asyncio.gather(*tasks)
    assert len(store.stored) == 100


async def test_who_waits_for_room_gives_up_at_the_deadline_truthfully(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVENTS_HELD", 1)
    store = Store()
    store.gate.clear()
    publish = publisher(store, deadline=0.2)
    first = asyncio.create_task(publish.publish(PART, record("first")))
    await wait_until(lambda: store.calls)
    with pytest.raises(Unavailable, match=r"event second waited 0.2 s behind 1 others .* it was not sent"):
        await publish.publish(PART, record("second"))
    store.gate.set()
    assert await first == "1"
    assert await publish.publish(PART, record("third")) == "2"
    assert store.stored == ["first", "third"]


async def test_who_is_cancelled_while_waiting_for_room_gives_it_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVENTS_HELD", 2)
    store = Store()
    store.gate.clear()
    publish = publisher(store)
    tasks = [asyncio.create_task(publish.publish(*item)) for item in records(8)]
    await wait_until(lambda: store.calls)
    for at in (2, 4, 5):
        tasks[at].cancel()
    store.gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert store.stored == ["0", "1", "3", "6", "7"]


# Telling


class Ear:
    def __init__(self) -> None:
        self.heard: list[PublishDetail] = []

    def on_publish(self, detail: PublishDetail, /) -> None:
        self.heard.append(detail)


async def test_hooks_hear_what_became_of_a_write() -> None:
    def mixed(items: Sequence[Item]) -> Sequence[Published]:
        return [*store.store(items[:1]), *unsure(items[1:2]), PermissionDenied("no.")]

    ear, store = Ear(), Store(mixed)
    publish = publisher(store, hooks=Hooks([ear]))
    await asyncio.gather(*(publish.publish(*item) for item in records(3)), return_exceptions=True)
    assert [(d.streams, d.events, d.failed, d.unknown) for d in ear.heard] == [(("ticks",), 3, 1, 1)]


def test_the_seam_is_the_contracts() -> None:
    """The fake has the signature of the real thing."""
    import inspect

    real: Any = inspect.signature(Engine.publish)
    assert list(inspect.signature(Store.publish).parameters)[1:] == ["items", "wait"]
    assert list(real.parameters)[1:] == ["records", "wait"]
